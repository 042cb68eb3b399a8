//! What people do with the product, one file a subject.
