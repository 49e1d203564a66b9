"""Writes the 1,000 molecules of this example to standard output, one `SMILES id` per line.

They are put together from building blocks, scaffold by scaffold, and a few well-known molecules come first: nothing is
taken from anybody's database. The same bytes each time. RDKit only checks that each is valid and none comes twice.
"""

import itertools
import sys

from rdkit import Chem

COUNT = 1000

KNOWN = {
    "benzene": "c1ccccc1",
    "toluene": "Cc1ccccc1",
    "phenol": "Oc1ccccc1",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "ibuprofen": "CC(C)Cc1ccc(C(C)C(=O)O)cc1",
    "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "thieno[2,3-c]pyridine": "c1cncc2c1ccs2",
}

# Two places for substituents each.
SCAFFOLDS = [
    "c1c({})ccc({})c1",
    "c1c({})cncc1({})",
    "n1c({})ccc2cc({})ccc12",
    "c1c({})sc({})c1",
    "C1CN({})CCN1({})",
    "c1ccc2c(c1)n({})cc2({})",
    "O=C(N({}))c1ccc({})cc1",
    "c1c({})cc2OCOc2c1({})",
    "C1CC({})CCC1({})",
    "c1c({})nc2ccc({})cn12",
]

# Rings have the digit 9, which no scaffold uses.
SUBSTITUENTS = [
    "C",
    "CC",
    "C(C)C",
    "CCO",
    "CCOC",
    "C9CC9",
    "CC(=O)O",
    "CC#N",
    "CC(F)(F)F",
    "c9ccccc9",
    "Cc9ccc(F)cc9",
    "CCN9CCOCC9",
]


def candidates():
    """Every scaffold with every pair of substituents, the scaffolds taking turns."""
    pairs = itertools.product(SUBSTITUENTS, SUBSTITUENTS)
    for (one, other), scaffold in itertools.product(pairs, SCAFFOLDS):
        yield scaffold.format(one, other)


def main():
    """Writes the list."""
    seen = set()
    for name, smiles in KNOWN.items():
        seen.add(Chem.CanonSmiles(smiles))
        print(smiles, name)
    for smiles in candidates():
        canonical = Chem.CanonSmiles(smiles)
        if canonical not in seen:
            seen.add(canonical)
            print(smiles, f"block-{len(seen):04}")
        if len(seen) == COUNT:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
