"""Services and pod addresses as kernel rules: a pure compile step and thin shells."""
