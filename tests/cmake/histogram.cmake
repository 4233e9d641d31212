ivg_add_test(histogram_tells_values_within_its_bound
             SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/histogram_tells_values_within_its_bound.c
             LIBS ivg_histogram m LABELS unit histogram)
