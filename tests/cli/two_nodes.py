"""Two nodes on one machine: network namespaces joined by a link, an MPI rank in each that talks over TCP. Needs root; a
test that cannot have it ends with 77 (skipped)."""
import os
import pathlib
import shutil
import subprocess
import sys

SKIPPED = 77


def skip(why):
    print("skipped:", why)
    sys.exit(SKIPPED)


class TwoNodes:
    def __init__(self, mpirun, scratch, tools=()):
        if os.geteuid() != 0:
            skip("network namespaces need root")
        self.cpus = sorted(os.sched_getaffinity(0))
        if len(self.cpus) < 2:
            skip("each rank needs a core of its own")
        for tool in ("ip", "taskset", "unshare", *tools):
            if shutil.which(tool) is None:
                skip(f"no {tool}; scripts/install_deps.sh installs it")
        self.mpirun, self.scratch = mpirun, pathlib.Path(scratch)
        self.spaces = [f"helix-{os.getpid()}-a", f"helix-{os.getpid()}-b"]
        self.links = [f"hx{os.getpid()}a", f"hx{os.getpid()}b"]
        self.addresses = ["10.77.0.1", "10.77.0.2"]

    def __enter__(self):
        for space in self.spaces:
            self.network("ip", "netns", "add", space)
        self.network("ip", "link", "add", self.links[0], "netns", self.spaces[0], "type", "veth", "peer", "name",
                     self.links[1], "netns", self.spaces[1])
        for space, link, address in zip(self.spaces, self.links, self.addresses):
            self.network("ip", "-n", space, "addr", "add", f"{address}/24", "dev", link)
            self.network("ip", "-n", space, "link", "set", link, "up")
            self.network("ip", "-n", space, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)

    def network(self, *command):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            self.__exit__()
            skip(f"{' '.join(command)}: {done.stderr.strip()}")

    def launch(self, *command):
        """mpirun with a rank on each node, to be started by subprocess: arguments and environment."""
        agent = self.scratch / "agent.sh"  # what mpirun takes for ssh; called with the host and a command
        agent.write_text("#!/bin/sh\nshift\n"
                         f"exec taskset -c {self.cpus[1]} ip netns exec {self.spaces[1]} unshare --uts "
                         "sh -c 'hostname node-b; exec sh -c \"$*\"' sh \"$@\"\n")
        agent.chmod(0o755)
        return {"args": ["taskset", "-c", str(self.cpus[0]), "ip", "netns", "exec", self.spaces[0], self.mpirun, "--host",
                         ",".join(f"{address}:1" for address in self.addresses), "-n", "2", "--bind-to", "none",
                         "--mca", "plm_rsh_agent", str(agent), "--mca", "btl", "tcp,self", "--mca", "pml", "ob1",
                         "--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca", "oob_tcp_if_include", "10.77.0.0/24",
                         *command],
                "env": {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"},
                "stdin": subprocess.DEVNULL, "text": True}
