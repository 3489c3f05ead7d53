"""Drift: has a distribution changed? One measure per file, as pure functions of samples, counts or moments;
`verdict.py` combines them.

sample.py categories.py judgement.py unseen.py       inputs; the resulting judgement; share of new categories
tails.py ks_exact.py benjamini_hochberg.py           tail probabilities; adjusted p-values
bins.py ks.py psi.py wasserstein.py mean_shift.py    measures of numbers
chi_square.py jensen_shannon.py l_infinity.py        measures of category counts
two_part.py categorical.py vector_shift.py           numbers with one very frequent value; categories; vectors
evidently.py hopsworks.py nannyml.py                 scores as other products define them
numeric.py compatible.py                             numbers; verdicts by the rules of those products
nulls.py verdict.py                                  drift of the fraction of nulls; the verdict
"""
