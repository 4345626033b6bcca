//! (room: checkpoint)
