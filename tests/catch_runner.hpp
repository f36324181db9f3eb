// Catch2's own main, for the mains of the tests: Catch2 2 is a header, which takes long to compile.
#pragma once

/// The exit code: how many cases failed.
int run_tests(int argc, char** argv);
