//! stub
pub mod local_redis;
