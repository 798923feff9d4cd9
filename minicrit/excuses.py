"""Words that may stand behind a total which is not what its rate and its time make.

`It reads 40 files a day. We have 6 days. [It halts for the audit.] So the total is 160 files.` Who
helps, what is lost, when nothing runs can be said in more ways than there are in a list. So what is
listed is wide where a total is too small or too large in the way that the word makes it: what stops
or shrinks the work excuses no total that is too large, what adds to it none that is too small.
"""

import re

#: What there was before, is lost on the way, or comes to an end; who helps, rests, learns or is
#: away; what halts the work: anywhere in between.
_BESIDES = re.compile(
    r"\b(?:backlog|in stock|in hand|already|reserves?|scrap\w*|reject\w*|spoil\w*|sent back|"
    r"breakage|ramp-up|lost|overtime|holidays?|of which|less|minus|except|besides|instead|extra|"
    r"spare|additional\w*|another (?:one|two|three)|idle|empty|absent|ill|sick(?! bay)|on strike|"
    r"(?:on|takes?) leave|nobody(?! doubts)|no one|stopped|stopping|(?<!the )stops|stood still|"
    r"stand(?:s|ing)? still|stand-?still|interrupt\w*|breaks?|pauses?|paus(?:ed|ing)|rests|resting|"
    r"(?:a|for) rest|lunch\w*|dinner|meals?|late|early|delayed|free|train(?:s|ed|ing|ees?)|"
    r"learning|learners?|practi[cs]e|set-?up|setting up|warm(?:s|ing)?[ -]up|cleaned|mend\w*|"
    r"repair\w*|colleagues?|help(?:s|ed|ing)?(?! desk| text)|(?<!the )helpers?|join(?:s|ed|ing)?|"
    r"a hand|alongside|(?:next to|beside|with) (?:her|him|them)|relie(?:f|ves?|ved)|equally|"
    r"just as|as (?:fast|quick|much|many)|there and back|(?:each|both) (?:ways?|sides?)|in pairs|"
    r"round trips?|a pair|couples?|both (?:days|nights|hours|weeks)|slow(?:s|ed)|speeds?|pace|"
    r"(?:slow|fast|quick)er|(?:until|till|from|before|after) \w+days?|half(?! past)|halves|"
    r"halfway|thrice|double[ds]?(?! spaced)|power cuts?|outages?|rain(?:s|ed)?|storms?|snow\w*|"
    r"fog|weekends?|faulty|broken?|damaged|ruined|torn|unusable|useless|thrown away|wasted?|"
    r"duplicates?|cancell\w*|returned|(?:give[ns]?|handed) back|withdrawn)\b",
    re.IGNORECASE,
)
#: What goes on about who works at the rate, without naming them again.
_GOES_ON = re.compile(
    r"(?:[.!?;:,]\s+|\A|\n)(?:but |though |yet |only |and )?(?:they|she|he)\b", re.IGNORECASE
)
#: What stops, shrinks or puts off the work, or is taken from what it makes.
_FEWER = re.compile(
    r"\b(?:jam(?:s|med|ming)?|halt\w*|taper\w*|fail(?:s|ed|ing|ure)?|stall(?:s|ed|ing)?|"
    r"fr(?:eez|oz)\w*|crash(?:es|ed)|stick(?:s|ing)?|stuck|offline|out of (?:order|action|use)|"
    r"suspend\w*|shut(?:s|ting)?|clos(?:ed|ing|ures?)(?! time)|curtail\w*|declin\w*|dwindl\w*|"
    r"fad(?:e[sd]?|ing)|fall(?:s|ing)|sinks?|shr(?:ink|unk)\w*|reduc\w*|weak\w*|"
    r"(?:switch|turn)\w* (?:it |them )?off|drop(?:s|ped)(?! off)|tir(?:es?|ed|ing)|borrow\w*|"
    r"unavailable|booked|away|elsewhere for|nothing|cannot|maintenance|servic(?:ed|ing)|"
    r"for service|calibrat\w*|inspect(?:ed|ions?)|strikes?(?! the| levels)|deduct\w*|subtract\w*|"
    r"discount\w*|skip\w*|illegible|blank|alternate|odd|capped|limit(?:s|ed)|"
    r"run(?:s|ning)? (?:out|dry|short)|leak\w*|evaporat\w*|loss(?:es)?|loses|margin|"
    r"allow for|allowance|eat(?:s|en)|(?:some|most|much|many|part|parts|few) of(?! our)|"
    r"(?:some|many|most|few) (?:are|were|is)|"
    r"ends (?:there|early)|near the end|(?:at|towards) the (?:start|end)(?! of [A-Z])|expir\w*|"
    r"quits?|at first|midweek|fortnights?|splash\w*|poor|thin|dr(?:y|ies)|"
    r"(?<!in )short(?:ened)?|cut(?:s| off| short)?|(?:it|work) begins|final(?! report)|opening|"
    r"(?:takes?|took) (?:its|a|one|some|part)|"
    r"(?:not|\w+n['\u2019]t) (?:all|until|run|work|start|begin|go|there|available|take|open|every|"
    r"used?|ready|possible|allowed|permitted|before|yet|[a-z]+ (?:until|before|when|while))|"
    r"(?:is|are|was|were|it|they|can) only|only (?:works?|runs?|begins?|starts?|there|on|when|part|"
    r"some|for|in))\b",
    re.IGNORECASE,
)
#: What speeds up or prolongs the work, or adds to what it makes.
_MORE = re.compile(
    r"\b(?:boost\w*|improv\w*|gr(?:ow|ew)\w*|increas\w*|climb\w*|ris(?:es?|ing|en)|rose|rais\w*|"
    r"add(?:s|ed|ing)?|includ\w*|also|too|overlap\w*|bolus|loading|together with|extend\w*|"
    r"prolong\w*|over(?:ran|runs?)|longer|renew(?:s|ed)|bundl\w*|comes? (?:first|on top)|on top|"
    r"surg(?:es?|ed|ing)|bigger|larger|midweek|from now on|"
    r"safety|spares?|run dry|packs of|by the (?:dozen|box|pack|crate)|"
    r"further|today|tomorrow|not counted|takes? (?:over|what)|(?<!all )the (?:rest|others))\b",
    re.IGNORECASE,
)
#: What makes so many times as much of it; no total that is not so many times the product.
_TIMES = re.compile(
    r"\b(?:same|identical\w*|equal|likewise|alike|as (?:well|good|long)|long again|over again|"
    r"match(?:es|ed)|in parallel|repeat(?:s|ed)?|twin|sister|each(?! time| case| year)|every|"
    r"so (?:do|does|did|is|are)|like|cop(?:y|ies|ied)|keep(?:s|ing)? up|split|both|further|too|"
    r"renew\w*|in and out|bought and sold|[a-z]+ing and [a-z]+ing|"
    r"(?:an?|per|each|every) \w+ per \w+|(?-i:[A-Z][a-z]+ and [A-Z][a-z]+))\b",
    re.IGNORECASE,
)
#: What there was before, wherever it is said.
_STOCK = re.compile(
    r"\b(?:half (?:full|empty)|not empty|(?:had|has|have) some|on top of|open position|"
    r"start(?:s|ed|ing)? (?:from|with)|what (?:we|it|they) (?:hold|held|have|had|own))\b",
    re.IGNORECASE,
)


def excused(text: str, start: int, end: int, times: float) -> bool:
    """Whether words between these offsets may explain why a total is no product.

    Args:
        text: the whole.
        start: offset of the first that is said of rate and time.
        end: offset behind the claim.
        times: the total as a share of the product.
    """
    if times > 1 and _STOCK.search(text, 0, end):
        return True
    listed = [_BESIDES, _GOES_ON, _FEWER if times < 1 else _MORE]
    if times > 1 and times == round(times):
        listed.append(_TIMES)
    return any(words.search(text, start, end) for words in listed)
