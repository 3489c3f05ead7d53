"""Load on purpose: `demo` shows every route at work, `micro` measures. Neither is part of the product."""
