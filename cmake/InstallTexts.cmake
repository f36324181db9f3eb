# Run by cmake --install (see Install.cmake): writes the man page, the completions of bash and zsh, and the Slurm scripts
# for the place that the program is installed in. bindir, datadir and mandir are relative to CMAKE_INSTALL_PREFIX.
set(root "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}")
set(program "${root}/${bindir}/helix-bench")

function(output_of result)
  execute_process(COMMAND ${program} ${ARGN} OUTPUT_VARIABLE text RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(failed)
    message(FATAL_ERROR "${program} ${ARGN} ended with ${failed}")
  endif()
  set(${result} "${text}" PARENT_SCOPE)
endfunction()

function(write path text)
  message(STATUS "Installing: ${path}")
  file(WRITE "${path}" "${text}")
endfunction()

output_of(version --version)
string(REGEX REPLACE "^helix-bench ([^ ]+).*" "\\1" version "${version}")
output_of(overview --help)
string(REGEX MATCHALL "\n  [a-z]+ " commands "${overview}")
list(TRANSFORM commands STRIP)

# Man page: the help texts as they are, line by line.
function(as_roff result text)
  string(REPLACE "\\" "\\e" text "${text}")
  string(REPLACE "-" "\\-" text "${text}")
  string(REGEX REPLACE "(^|\n)([.'])" "\\1\\\\&\\2" text "${text}")
  set(${result} "${text}" PARENT_SCOPE)
endfunction()
as_roff(roff "${overview}")
set(page ".TH HELIX\\-BENCH 1 \"\" \"helix\\-bench ${version}\" \"User Commands\"
.SH NAME
helix\\-bench \\- measured and predicted Helix\\-parallel LLM decoding
.SH SYNOPSIS
.nf
[mpirun \\-n R] helix\\-bench [COMMAND] [FLAGS]
.fi
.SH DESCRIPTION
.nf
${roff}
.fi
.SH COMMANDS
")
set(words_of "")  # shell code: one case a command
foreach(command ${commands})
  output_of(help ${command} --help)
  as_roff(roff "${help}")
  string(APPEND page ".SS ${command}\n.nf\n${roff}\n.fi\n")
  string(REGEX MATCHALL "--[a-z0-9][a-z0-9-]*" flags "${help}")
  list(REMOVE_DUPLICATES flags)
  list(JOIN flags " " flags)
  string(APPEND words_of "    ${command}) flags='${flags}' ;;\n")
endforeach()
string(APPEND page ".SH EXIT STATUS
.nf
0  done
1  a check failed: verification, regression
2  unusable arguments or files
3  the run broke off; what was measured is on disk
.fi
")
write("${root}/${mandir}/man1/helix-bench.1" "${page}")

list(JOIN commands " " names)
write("${root}/${datadir}/bash-completion/completions/helix-bench" "# Completion of helix-bench for bash, made from its --help.
_helix_bench() {
  local word=\${COMP_WORDS[COMP_CWORD]} command=\${COMP_WORDS[1]} flags
  [[ $command == -* ]] && command=sweep
  if ((COMP_CWORD == 1)) && [[ $word != -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '${names}' -- \"$word\")
    return
  fi
  case $command in
${words_of}    *) return ;;
  esac
  [[ $word == -* ]] && mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\")
}
complete -o default -F _helix_bench helix-bench
")
write("${root}/${datadir}/zsh/site-functions/_helix-bench" "#compdef helix-bench
# Completion of helix-bench for zsh, made from its --help.
local flags command=\${words[2]}
[[ $command == -* ]] && command=sweep
if ((CURRENT == 2)) && [[ $PREFIX != -* ]]; then
  compadd -- ${names}
  return
fi
case $command in
${words_of}  *) _files; return ;;
esac
if [[ $PREFIX == -* ]]; then
  compadd -- \${=flags}
else
  _files
fi
")

file(GLOB scripts "${SOURCE_DIR}/scripts/slurm/*")
foreach(script ${scripts})
  cmake_path(GET script FILENAME name)
  file(READ "${script}" text)
  string(REPLACE "scripts/slurm/" "${CMAKE_INSTALL_PREFIX}/${datadir}/helix-bench/slurm/" text "${text}")
  string(REPLACE "program=build/cuda/bin/helix-bench" "program=${CMAKE_INSTALL_PREFIX}/${bindir}/helix-bench" text "${text}")
  string(REPLACE " from the repository" "" text "${text}")
  set(installed "${root}/${datadir}/helix-bench/slurm/${name}")
  write("${installed}" "${text}")
  file(CHMOD "${installed}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
endforeach()
