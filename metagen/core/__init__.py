"""Small mathematics and bookkeeping that several rooms use."""
