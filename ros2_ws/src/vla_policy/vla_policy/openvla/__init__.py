"""OpenVLA-OFT at its published size: its folders, its images, its network."""
