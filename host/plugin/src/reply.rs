/// The way back to an asker, used exactly once: what is dropped unanswered, on
/// shutdown for instance, answers with `lost`.
pub struct Reply<T> {
    send: Option<Box<dyn FnOnce(T) + Send>>,
    lost: fn() -> T,
}

// === impl Reply ===

impl<T> Reply<T> {
    /// `send` is called on the plugin's thread and must not block.
    pub fn new(send: impl FnOnce(T) + Send + 'static, lost: fn() -> T) -> Self {
        Self {
            send: Some(Box::new(send)),
            lost,
        }
    }

    /// Answers.
    pub fn send(mut self, answer: T) {
        if let Some(send) = self.send.take() {
            send(answer);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(send) = self.send.take() {
            send((self.lost)());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn an_asker_always_hears_something_once() {
        let (send, heard) = channel();
        let reply =
            |send: std::sync::mpsc::Sender<u8>| Reply::new(move |n| send.send(n).unwrap(), || 0);
        reply(send.clone()).send(7);
        drop(reply(send));
        assert_eq!(heard.iter().collect::<Vec<_>>(), [7, 0]);
    }
}
