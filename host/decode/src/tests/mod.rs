mod captures;
mod write;
