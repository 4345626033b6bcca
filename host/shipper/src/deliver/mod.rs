//! (room: deliver)
