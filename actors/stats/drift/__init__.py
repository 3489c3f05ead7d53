"""Has a distribution moved? One measure a file, pure functions over samples, counts or moments; `judge.py` weighs
them and gives the verdict.
"""
