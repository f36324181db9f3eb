"""ReFrame's settings for the machine it runs on: mpirun, no batch system."""
site_configuration = {
    "systems": [{
        "name": "local",
        "descr": "this machine",
        "hostnames": [".*"],
        "partitions": [{"name": "mpi", "scheduler": "local", "launcher": "mpirun", "environs": ["builtin"],
                        "max_jobs": 1}],
    }],
    "environments": [{"name": "builtin", "cc": "cc", "cxx": "", "ftn": ""}],
}
