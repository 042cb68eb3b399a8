//! The contract that every adapter signs, and what tests of the whole share.
