# What `helix-bench report` draws with: a Python that has vl_convert (scripts/install_deps.sh puts one into .venv) draws
# SVG and PNG, and gives the JavaScript of Vega-Lite for its interactive page. The program looks for the Python when it
# runs; the JavaScript is compiled in if it is there now.
find_package(Python3 QUIET COMPONENTS Interpreter)
set(HELIX_PLOT_PYTHON "" CACHE FILEPATH "Python with vl_convert; empty: that of .venv, else the one found")
set(helix_plot_python ${HELIX_PLOT_PYTHON})
if(NOT helix_plot_python)
  set(helix_plot_python ${Python3_EXECUTABLE})
  if(EXISTS ${PROJECT_SOURCE_DIR}/.venv/bin/python)
    set(helix_plot_python ${PROJECT_SOURCE_DIR}/.venv/bin/python)
  endif()
endif()

set(helix_vega_javascript ${PROJECT_BINARY_DIR}/vega.js)
if(NOT EXISTS ${helix_vega_javascript} AND helix_plot_python)
  execute_process(COMMAND ${helix_plot_python} -c "import sys, vl_convert; sys.stdout.write(vl_convert.javascript_bundle())"
                  OUTPUT_FILE ${helix_vega_javascript}.partial RESULT_VARIABLE failed ERROR_QUIET)
  if(NOT failed)
    file(RENAME ${helix_vega_javascript}.partial ${helix_vega_javascript})
  endif()
endif()
if(NOT EXISTS ${helix_vega_javascript})
  message(STATUS "No Python with vl_convert: `helix-bench report` will look for one when it runs (`scripts/install_deps.sh plot`)")
  set(helix_vega_javascript "")
endif()
