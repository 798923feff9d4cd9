"""Language models that make data: one small protocol, one file a kind of server.

Network clients live here and nowhere else.
"""
