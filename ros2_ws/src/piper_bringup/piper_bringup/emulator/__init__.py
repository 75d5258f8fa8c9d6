"""Emulated Pipers: arms that speak the real CAN protocol, with faults to inject, for everything but the metal."""
