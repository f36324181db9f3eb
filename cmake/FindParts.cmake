# The packages of a part of the project, named if they are missing. Parts that the program does not need (tests,
# micro-benchmarks) are ON, OFF, or AUTO: built if their packages are there. One that cannot be built stops no other.

# helix_find_part(RESULT NAME WANTED PACKAGE DEBIAN_NAME [PACKAGE DEBIAN_NAME ...]): finds the packages of a part, as
# find_package would. RESULT becomes a sentence that names those that are missing and what installs them, or empty; with
# WANTED = ON it is an error. A macro: what the packages define is for the caller.
macro(helix_find_part result name wanted)
  set(helix_missing "")
  set(helix_packages ${ARGN})
  while(helix_packages)
    list(POP_FRONT helix_packages helix_package helix_debian_name)
    separate_arguments(helix_package)
    find_package(${helix_package} QUIET)
    list(GET helix_package 0 helix_package)
    if(NOT ${helix_package}_FOUND)
      list(APPEND helix_missing "${helix_package} (Debian: ${helix_debian_name})")
    endif()
  endwhile()
  set(${result} "")
  if(helix_missing)
    list(JOIN helix_missing ", " helix_missing)
    set(${result} "${name}: not built without ${helix_missing}. Install it (`scripts/install_deps.sh ${name}`) and configure again")
    if(${wanted} STREQUAL AUTO)
      message(STATUS "${${result}}")
    else()
      message(FATAL_ERROR "${${result}}")
    endif()
  endif()
endmacro()

# helix_unbuilt(SENTENCE targets...): targets in the place of those that cannot be built; building one says why.
function(helix_unbuilt sentence)
  foreach(target ${ARGN})
    add_custom_target(${target} COMMAND ${CMAKE_COMMAND} -E echo "${sentence}" COMMAND ${CMAKE_COMMAND} -E false
                      COMMENT "" VERBATIM)
  endforeach()
endfunction()
