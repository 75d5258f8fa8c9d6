"""Vector environments: many worlds behind one interface."""
