//! The only user of aya: loads, plans, applies and reads the kernel side of the capture.
