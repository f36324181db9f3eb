# One INTERFACE target carries what every target of the project is compiled with.
add_library(helix_options INTERFACE)
target_compile_features(helix_options INTERFACE cxx_std_20)
target_compile_options(helix_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wnull-dereference
  $<$<BOOL:${HELIX_WERROR}>:-Werror>)
if(HELIX_SANITIZE)
  target_compile_options(helix_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
                                                 -fno-omit-frame-pointer)
  target_link_options(helix_options INTERFACE -fsanitize=address,undefined)
endif()
target_include_directories(helix_options INTERFACE ${PROJECT_SOURCE_DIR})

# helix_library(NAME SOURCES... LINK libs...): a static library of one folder.
function(helix_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC helix_options ${ARG_LINK})
endfunction()
