"""Power cuts: an ext4 on a loop device whose power is cut by EXT4_IOC_SHUTDOWN, under the stores of a stack."""
