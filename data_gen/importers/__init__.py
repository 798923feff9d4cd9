"""Importers of public sets in their published layouts, one a file; `IMPORTERS` has them by kind.

A new set is a new file with an `IMPORTER`, a line below, and its kind in `minicrit/data_config.py`.
"""

from data_gen.importers import (
    bbmistake,
    contract,
    medec,
    missci,
    mr_ben,
    prmbench,
    processbench,
    stepverify,
)
from data_gen.importers.draft import Importer

IMPORTERS: dict[str, Importer] = {
    one.kind: one
    for one in (
        mr_ben.IMPORTER,
        medec.IMPORTER,
        prmbench.IMPORTER,
        bbmistake.IMPORTER,
        processbench.IMPORTER,
        stepverify.IMPORTER,
        missci.IMPORTER,
        contract.IMPORTER,
    )
}
