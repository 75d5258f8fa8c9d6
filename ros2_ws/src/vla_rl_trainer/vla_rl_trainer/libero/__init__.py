"""The LIBERO benchmark, compiled once into a cache and stepped without robosuite."""
