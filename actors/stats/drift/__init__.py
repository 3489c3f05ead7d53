"""Has a distribution moved? One measure a file, pure functions over samples, counts or moments; `verdict.py`
weighs them.

sample.py categories.py judgement.py unseen.py       what is compared; what a measure says; new categories
tails.py ks_exact.py benjamini_hochberg.py           probabilities
bins.py ks.py psi.py wasserstein.py mean_shift.py    of numbers
chi_square.py jensen_shannon.py l_infinity.py        of categories
two_part.py categorical.py vector_shift.py           numbers with a mass at one value; texts; vectors
evidently.py hopsworks.py nannyml.py                 thresholds of other products
numeric.py compatible.py                             numbers; those products' verdicts
nulls.py verdict.py                                  the share of nulls; the verdict
"""
