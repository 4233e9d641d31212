# CUDA programs through the whole path: shim, ring, executor. Driver API programs carry their kernels as checked-in PTX;
# runtime API programs are built where nvcc is, with static and with shared cudart.
set(cuda_dir ${CMAKE_CURRENT_SOURCE_DIR}/cuda)
set(cuda_bin ${CMAKE_BINARY_DIR}/tests/cuda)

add_library(ivg_test_kernels OBJECT ${cuda_dir}/kernels_ptx.c)
target_compile_definitions(ivg_test_kernels PRIVATE IVG_KERNELS_PTX="${cuda_dir}/kernels.ptx")
set_source_files_properties(${cuda_dir}/kernels_ptx.c PROPERTIES OBJECT_DEPENDS ${cuda_dir}/kernels.ptx)

# Linked against our shim for its symbols only: no run path, so the loader takes the libcuda.so.1 that it would take for
# any program.
function(ivg_cuda_program name)
  add_executable(cuda_${name} ${cuda_dir}/${name}.c)
  set_target_properties(cuda_${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY ${cuda_bin} SKIP_BUILD_RPATH ON)
  target_link_libraries(cuda_${name} PRIVATE ivg_test_kernels ivg_calls ivg_libcuda m Threads::Threads)
endfunction()

# ivg_cuda_test(NAME PROGRAM [ARGS...]): in local mode on the soft GPU.
function(ivg_cuda_test name program)
  add_test(NAME cuda_${name} COMMAND ${CMAKE_BINARY_DIR}/bin/ivgpu-run --device soft -- ${program} ${ARGN})
  set_tests_properties(cuda_${name} PROPERTIES TIMEOUT 120 LABELS cuda)
endfunction()

foreach(program demo handles memory streams modules threads fault process launch_rate loop callbacks managed memops printf)
  ivg_cuda_program(${program})
  if(NOT program MATCHES "^(threads|loop)$")
    ivg_cuda_test(${program} ${cuda_bin}/${program})
  endif()
endforeach()
ivg_cuda_test(threads ${cuda_bin}/threads 8)
target_compile_definitions(cuda_printf PRIVATE IVG_PRINTF_PTX="${cuda_dir}/printf.ptx")
set_source_files_properties(${cuda_dir}/printf.c PROPERTIES OBJECT_DEPENDS ${cuda_dir}/printf.ptx)
ivg_cuda_test(printf_of_an_assertion ${cuda_bin}/printf assert)
ivg_cuda_test(callbacks_of_a_failed_context ${cuda_bin}/callbacks fault)
ivg_cuda_test(threads_beyond_lines ${cuda_bin}/threads 160)

find_program(IVG_NVCC nvcc HINTS /usr/local/cuda/bin)
if(IVG_NVCC AND NOT IVG_SANITIZE)
  foreach(cudart static shared)
    foreach(source runtime runtime_host)
      add_custom_command(
        OUTPUT ${cuda_bin}/${source}_${cudart}
        COMMAND ${IVG_NVCC} -O2 -cudart ${cudart} -o ${cuda_bin}/${source}_${cudart} ${cuda_dir}/${source}.cu
        DEPENDS ${cuda_dir}/${source}.cu VERBATIM)
      add_custom_target(cuda_${source}_${cudart} ALL DEPENDS ${cuda_bin}/${source}_${cudart})
      ivg_cuda_test(${source}_${cudart} ${cuda_bin}/${source}_${cudart})
    endforeach()
  endforeach()
else()
  message(STATUS "runtime API programs (static and shared cudart) are not built: no nvcc, or a sanitizer build")
endif()
