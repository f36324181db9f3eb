"""Two nodes on one machine: network namespaces joined by a link, an MPI rank in each that talks over TCP. Needs root;
where namespaces are not to be had the script that wants them ends with 77, saying why. What still runs on the nodes at
the end is killed."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

SKIPPED = 77
# Nobody listens there: a refusal is an answer, and has crossed the link.
ANSWERS = """
import errno, socket, sys
with socket.socket() as s:
    s.settimeout(1)
    sys.exit(s.connect_ex((sys.argv[1], 9)) not in (0, errno.ECONNREFUSED))
"""


def skip(why):
    print("skipped:", why)
    sys.exit(SKIPPED)


class TwoNodes:
    # Jumbo frames, as networks of clusters have them, and since the ranks' cores pay an interrupt for each packet here.
    MTU = 9000

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
            self.network("ip", "-n", space, "link", "set", link, "mtu", str(self.MTU), "up")
            self.network("ip", "-n", space, "link", "set", "lo", "up")
        self.wait_for_link()
        return self

    def __exit__(self, *_):
        for space in self.spaces:
            left = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True).stdout.split()
            for pid in left:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it was about to end
            subprocess.run(["ip", "netns", "del", space], capture_output=True)

    def wait_for_link(self, seconds=30):
        """A link that has been set up carries nothing until both ends have seen it, which takes up to a second."""
        deadline = time.monotonic() + seconds
        for space, peer in zip(self.spaces, reversed(self.addresses)):
            while subprocess.run(["ip", "netns", "exec", space, sys.executable, "-c", ANSWERS, peer]).returncode != 0:
                if time.monotonic() > deadline:
                    self.__exit__()
                    raise TimeoutError(f"{peer} does not answer {space} within {seconds} s")
                time.sleep(0.1)

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
                # MPI's own files in this test's folder: nobody finds those of a run that was ended.
                "env": {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                        # Open MPI 5 takes both for one node, which has a slot.
                        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "TMPDIR": str(self.scratch)},
                "stdin": subprocess.DEVNULL, "text": True}
