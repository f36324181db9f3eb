# cmake --install BUILD --prefix PREFIX: the program, what was built beside it, Slurm scripts, documents; man page and
# completions are made from the program's own --help, so that they say what it does.
include(GNUInstallDirs)
set_target_properties(helix-bench PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)  # MPI and fmt where the build found them
install(TARGETS helix-bench)
foreach(program helix-microbench helix-gpubench)
  if(TARGET ${program})
    get_target_property(type ${program} TYPE)
    if(type STREQUAL EXECUTABLE)
      set_target_properties(${program} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
      install(TARGETS ${program} OPTIONAL)  # if it was built
    endif()
  endif()
endforeach()
install(FILES README.md LICENSE CHANGELOG.md CITATION.cff DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(EXISTS ${PROJECT_SOURCE_DIR}/docs)
  install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
endif()

# The prefix is known when it installs, and only then.
install(CODE "
set(bindir \"${CMAKE_INSTALL_BINDIR}\")
set(datadir \"${CMAKE_INSTALL_DATADIR}\")
set(mandir \"${CMAKE_INSTALL_MANDIR}\")
set(SOURCE_DIR \"${PROJECT_SOURCE_DIR}\")
include(\"${PROJECT_SOURCE_DIR}/cmake/InstallTexts.cmake\")
")
