"""Where each process is put together: one file per process, which builds the parts, starts them and stops them."""
