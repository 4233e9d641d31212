# libnvidia-ml.so.1: through the whole path on the soft GPU, and its host side over an NVML of the test's own.
if(NOT BUILD_TESTING OR NOT TARGET ivg_nvml)
  return()
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(nvml_source ${CMAKE_SOURCE_DIR}/guest/nvml)
set(nvml_bin ${CMAKE_BINARY_DIR}/tests/nvml)

add_executable(nvml_figures ${CMAKE_CURRENT_SOURCE_DIR}/nvml/figures.c)
set_target_properties(nvml_figures PROPERTIES OUTPUT_NAME figures RUNTIME_OUTPUT_DIRECTORY ${nvml_bin} SKIP_BUILD_RPATH ON)
target_include_directories(nvml_figures PRIVATE ${nvml_source})
target_link_libraries(nvml_figures PRIVATE ivg_calls ivg_libcuda ${CMAKE_DL_LIBS})
add_dependencies(nvml_figures ivg_nvml)

add_test(NAME nvml_figures COMMAND ${CMAKE_BINARY_DIR}/bin/ivgpu-run --device soft -- ${nvml_bin}/figures)
set_tests_properties(nvml_figures PROPERTIES TIMEOUT 180 LABELS "cuda;nvml")
# A sanitizer's library cannot be loaded into a program without it.
if(NOT IVG_SANITIZE)
  add_test(NAME nvml_monitor COMMAND ${CMAKE_BINARY_DIR}/bin/ivgpu-run --device soft -- ${Python3_EXECUTABLE} -B
                                     ${CMAKE_CURRENT_SOURCE_DIR}/nvml/monitor.py ${nvml_source}/names.txt)
  set_tests_properties(nvml_monitor PROPERTIES TIMEOUT 180 LABELS "cuda;nvml" ENVIRONMENT IVGPU_SOFT_DEVICES=2)
endif()

if(TARGET ivg_exec_core)
  set(fake_nvml ${CMAKE_BINARY_DIR}/tests/fake_nvml)
  add_library(exec_fake_nvml MODULE ${CMAKE_CURRENT_SOURCE_DIR}/unit/exec_fake_nvml.c)
  set_target_properties(exec_fake_nvml PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${fake_nvml} OUTPUT_NAME nvidia-ml
                                                  SUFFIX .so.1)
  ivg_add_test(exec_measures_by_the_hosts_nvml SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/exec_measures_by_the_hosts_nvml.c
               LIBS ivg_exec_core LABELS unit exec)
  target_compile_definitions(exec_measures_by_the_hosts_nvml PRIVATE FAKE_NVML_FOLDER="${fake_nvml}")
  add_dependencies(exec_measures_by_the_hosts_nvml exec_fake_nvml)
endif()

find_path(IVG_NVML_INCLUDE nvml.h PATHS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES include)
if(IVG_NVML_INCLUDE)
  foreach(side ours theirs)
    add_library(nvml_abi_${side} OBJECT ${CMAKE_CURRENT_SOURCE_DIR}/unit/nvml_abi_list.c)
    target_compile_definitions(nvml_abi_${side} PRIVATE NVML_LIST=nvml_${side})
  endforeach()
  target_compile_definitions(nvml_abi_ours PRIVATE NVML_HEADER="nvml_abi.h")
  target_include_directories(nvml_abi_ours PRIVATE ${nvml_source})
  target_compile_definitions(nvml_abi_theirs PRIVATE NVML_HEADER=<nvml.h>)
  target_include_directories(nvml_abi_theirs SYSTEM PRIVATE ${IVG_NVML_INCLUDE})
  ivg_add_test(nvml_abi_matches_nvml_h SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/unit/nvml_abi_matches_nvml_h.c
               $<TARGET_OBJECTS:nvml_abi_ours> $<TARGET_OBJECTS:nvml_abi_theirs> LABELS unit nvml)
else()
  message(STATUS "nvml_abi_matches_nvml_h: not built, no nvml.h found (set CUDA_HOME)")
endif()
