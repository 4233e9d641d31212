/* User objects on this side. */
#ifndef IVG_GUEST_USER_OBJECT_H
#define IVG_GUEST_USER_OBJECT_H

#include "guest.h"

/* On the callback thread: the destructor of that number has run. IVG_ID_NONE: of none that the program knows. */
IVG_HIDDEN void ivg_user_object_over(ivg_id id);

#endif
