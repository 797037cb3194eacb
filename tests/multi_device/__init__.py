"""Each test runs a worker in processes of its own, because the number of devices is fixed when JAX starts."""
