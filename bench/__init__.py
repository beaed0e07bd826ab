"""Measurements that are run by hand or by `make bench`: nothing here is part of the product."""
