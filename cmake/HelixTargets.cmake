# One INTERFACE target carries what every target of the project is compiled with.
add_library(helix_options INTERFACE)
target_compile_features(helix_options INTERFACE cxx_std_20)
target_compile_options(helix_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
    -Wnull-dereference $<$<BOOL:${HELIX_WERROR}>:-Werror>>)
if(HELIX_SANITIZE)
  # Instrumented, g++ 12 takes members of its own <regex> for uninitialised; the release build keeps the warning.
  # What UndefinedBehaviorSanitizer would say of null pointers and the sizes of objects AddressSanitizer says, too, and
  # saying it once takes a fifth less time to compile.
  target_compile_options(helix_options INTERFACE -fsanitize=address,undefined -fno-sanitize=null,object-size
                                                 -fno-sanitize-recover=all -fno-omit-frame-pointer
                                                 -Wno-maybe-uninitialized)
  target_link_options(helix_options INTERFACE -fsanitize=address,undefined)
endif()
if(HELIX_FUZZ)
  target_compile_options(helix_options INTERFACE -fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow
                                                 -fno-sanitize-recover=all)
  target_link_options(helix_options INTERFACE -fsanitize=address,undefined)
endif()
target_include_directories(helix_options INTERFACE ${PROJECT_SOURCE_DIR})

# helix_unity(TARGET): compiles its sources eight at a time, which parses the headers they share once. For speed alone: every
# source still includes what it uses, and names of its own are its own in the whole target.
function(helix_unity target)
  if(HELIX_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  endif()
endfunction()

# helix_quick(TARGET): its sources are compiled quickly rather than for speed: what it does takes no time that anyone waits for
# or measures. The sanitizers double the time to compile; kernels keep all checks of them.
add_library(helix_quick_options INTERFACE)  # linked to come behind helix_options, which would ask for all checks again
target_compile_options(helix_quick_options INTERFACE $<$<CONFIG:Release>:-O1>)
if(HELIX_SANITIZE)
  target_compile_options(helix_quick_options INTERFACE -O0 -fno-sanitize=alignment,vptr)
endif()
function(helix_quick target)
  target_link_libraries(${target} PRIVATE helix_quick_options)
endfunction()

# helix_folder(FOLDER [LINK libs and folders...]): a static library of the sources in FOLDER, subfolders apart. What it
# links by a folder's path are the arrows that HACKING.md allows it.
function(helix_folder folder)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  helix_folder_target(target ${folder})
  set(patterns ${PROJECT_SOURCE_DIR}/${folder}/*.cpp)
  if(HELIX_CUDA)
    list(APPEND patterns ${PROJECT_SOURCE_DIR}/${folder}/*.cu)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${patterns})
  set(libraries "")
  foreach(library ${ARG_LINK})
    if(IS_DIRECTORY ${PROJECT_SOURCE_DIR}/${library})
      helix_folder_target(library ${library})
    endif()
    list(APPEND libraries ${library})
  endforeach()
  string(REGEX REPLACE "/.*" "" top ${folder})
  set_property(GLOBAL APPEND PROPERTY helix_${top}_folders ${target})
  if(NOT sources)  # headers alone
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE helix_options ${libraries})
    return()
  endif()
  add_library(${target} STATIC ${sources})
  target_link_libraries(${target} PUBLIC helix_options ${libraries})
  if(folder MATCHES "^sweeps")
    helix_quick(${target})
  endif()
  # Highway compiles a source once for each instruction set; nvcc takes one at a time anyway.
  if(NOT folder MATCHES "^kernels/(cpu|cuda)")
    helix_unity(${target})
  endif()
endfunction()

# helix_folder_target(VARIABLE FOLDER): a folder's target, helix_kernels_cpu_linear of kernels/cpu/linear.
function(helix_folder_target variable folder)
  string(REPLACE / _ target helix_${folder})
  set(${variable} ${target} PARENT_SCOPE)
endfunction()

# helix_top(TOP): the target helix_TOP, which is all folders under TOP that are known by now.
function(helix_top top)
  get_property(folders GLOBAL PROPERTY helix_${top}_folders)
  add_library(helix_${top} INTERFACE)
  target_link_libraries(helix_${top} INTERFACE ${folders})
endfunction()

# helix_embed(TARGET FUNCTION EXTENSION files...): compiles text files into TARGET as
# `std::span<const helix::EmbeddedFile> helix::FUNCTION()`, so that the program needs no data files beside it. They are
# called as the files without their extension.
function(helix_embed target function extension)
  set(entries "")
  foreach(file ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} text)
    get_filename_component(stem ${file} NAME)
    string(REGEX REPLACE "\\.${extension}$" "" stem ${stem})
    string(APPEND entries "    {\"${stem}\", R\"EMBED(${text})EMBED\"},\n")
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${function}.cpp CONTENT
"// Generated from *.${extension} by helix_embed.
#include <array>

#include \"roofline/base/embedded.hpp\"

namespace helix {
std::span<const EmbeddedFile> @function@() {
  static const auto files = std::to_array<EmbeddedFile>({
@entries@  });
  return files;
}
}  // namespace helix
" @ONLY)
  target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/${function}.cpp)
endfunction()
