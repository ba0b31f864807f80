//! One module a command.

pub mod capture;
pub mod check;
pub mod ctl;
pub mod decode;
pub mod plugin;
pub mod print;
pub mod publish;
pub mod query;
pub mod run;
mod stop;
