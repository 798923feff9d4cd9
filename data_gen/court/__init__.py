"""A language model as the judge of two critics: it must qualify before it is believed."""
