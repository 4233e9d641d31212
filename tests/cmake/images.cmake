# Content names, the store of module images and its keeper.
ivg_add_test(digest_is_blake3_in_every_width SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/digest_is_blake3_in_every_width.c
             LIBS ivg_digest LABELS unit images)
if(TARGET digest_is_blake3_in_every_width)
  target_include_directories(digest_is_blake3_in_every_width PRIVATE ${CMAKE_SOURCE_DIR}/digest/src)
endif()
foreach(test images_store_is_bounded images_keeper_believes_nobody)
  ivg_add_test(${test} SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/${test}.c LIBS ivg_image_keeper LABELS unit images)
endforeach()
ivg_add_test(guest_images_go_by_name_first
             SOURCES ${CMAKE_SOURCE_DIR}/tests/unit/guest_images_go_by_name_first.c ${CMAKE_SOURCE_DIR}/guest/src/image_send.c
             LIBS ivg_calls ivg_digest ivg_glue LABELS unit guest images)
if(TARGET guest_images_go_by_name_first)
  target_include_directories(guest_images_go_by_name_first PRIVATE ${CMAKE_SOURCE_DIR}/guest/src)
endif()
