"""NeuroSim's learning protocol on the emulator's cells, against NeuroSim's own results."""
