"""Where tasks come from: the twin and LIBERO, behind one protocol. Nothing outside this folder asks which it is."""
