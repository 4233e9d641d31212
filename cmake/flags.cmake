# Language, warnings, sanitizers and run paths for every target.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)

# A build tree runs on another x86-64 Linux: run paths are relative.
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)

add_compile_options(-Wall -Wextra -Wshadow -Wundef -Wwrite-strings -Wformat=2 -Wvla -Wpointer-arith -Wcast-align)
# C alone: one test compiles the public headers from C++.
add_compile_options($<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
                    $<$<COMPILE_LANGUAGE:C>:-Wold-style-definition>)
option(IVG_WERROR "Warnings are errors" ON)
if(IVG_WERROR)
  add_compile_options(-Werror)
endif()
add_compile_definitions(_GNU_SOURCE)
add_compile_options(-fno-omit-frame-pointer -fno-strict-aliasing)

set(IVG_SANITIZE "" CACHE STRING "address;undefined or thread")
if(IVG_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
  add_compile_definitions(IVG_TSAN=1)
elseif(IVG_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
  add_compile_definitions(IVG_ASAN=1)
endif()

# All code then tells libFuzzer its way; tests/cmake/fuzz.cmake makes the programs.
option(IVG_FUZZ "Build the fuzz targets (clang only; preset fuzz)" OFF)
if(IVG_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "IVG_FUZZ needs clang and its libFuzzer, this is ${CMAKE_C_COMPILER_ID}")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# The address sanitizer sees as much in code that is not optimised, and optimising what it adds is most of its build. So what
# is long and runs seldom, generated code and the tests' own, is compiled without.
set(IVG_SANITIZE_QUICKLY "")
if(IVG_SANITIZE MATCHES "address" AND NOT IVG_FUZZ)
  set(IVG_SANITIZE_QUICKLY -O0)
endif()
function(ivg_sanitize_quickly)
  set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_OPTIONS ${IVG_SANITIZE_QUICKLY})
endfunction()

find_package(Threads REQUIRED)
