//! Sources added and removed by hand, in the shape of Dynamo's indexer.

use super::{Shared, aside, body};
use crate::wire::from_json;
use crate::{ErrorBody, Rank, Register, Unregister};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Json;
use serde::de::{self, Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[derive(Deserialize)]
struct RegisterBody {
    instance_id: Instance,
    endpoint: String,
    model_name: String,
    #[serde(default)]
    block_size: Option<u32>,
    #[serde(default)]
    dp_rank: Option<u32>,
    #[serde(default)]
    replay_endpoint: Option<String>,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Keys of Dynamo's that mean nothing here, or mistyped ones: the answer says so.
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct UnregisterBody {
    instance_id: Instance,
    #[serde(default)]
    model_name: Option<String>,
    #[serde(default)]
    dp_rank: Option<u32>,
}

/// An instance of `GET /workers`.
#[derive(Default, Serialize)]
struct Worker {
    instance_id: String,
    model_name: String,
    endpoints: BTreeMap<Rank, String>,
    replay_endpoints: BTreeMap<Rank, String>,
    links: BTreeMap<Rank, String>,
}

/// Dynamo's ids are numbers; names are welcome too.
struct Instance(String);

pub(super) async fn register(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ErrorBody> {
    let held = body::read(&shared, &headers, body).await?;
    let asked: RegisterBody = from_json(&held.bytes)?;
    drop(held);
    if asked.endpoint.is_empty() {
        return Err(ErrorBody::bad("endpoint: expected a ZeroMQ endpoint"));
    }
    let ignored: Vec<String> = asked.unknown.into_keys().collect();
    let source = Register {
        instance: asked.instance_id.0,
        endpoint: asked.endpoint,
        model: asked.model_name,
        block_size: asked.block_size.unwrap_or(0),
        rank: asked.dp_rank,
        replay: asked.replay_endpoint.filter(|e| !e.is_empty()),
        topics: asked.topics,
        labels: asked.labels,
    };
    aside(shared, move |control| control.register(source)).await??;
    let mut answer = json!({"status": "ok"});
    if !ignored.is_empty() {
        answer["ignored"] = ignored.into();
    }
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(super) async fn unregister(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ErrorBody> {
    let held = body::read(&shared, &headers, body).await?;
    let asked: UnregisterBody = from_json(&held.bytes)?;
    drop(held);
    let which = Unregister {
        instance: asked.instance_id.0,
        model: asked.model_name,
        rank: asked.dp_rank,
    };
    let removed = aside(shared, move |control| control.unregister(which)).await??;
    Ok(Json(json!({"status": "ok", "removed": removed})))
}

/// Every source, gathered by instance, wherever it was discovered.
pub(super) async fn workers(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Vec<impl Serialize>>, ErrorBody> {
    let sources = aside(shared, |control| control.sources()).await?;
    let mut workers: BTreeMap<(String, String), Worker> = BTreeMap::new();
    for source in sources {
        let key = (source.instance.clone(), source.model.clone());
        let worker = workers.entry(key).or_insert_with(|| Worker {
            instance_id: source.instance,
            model_name: source.model,
            ..Worker::default()
        });
        let rank = Rank(source.rank.unwrap_or(0));
        let endpoint = source.endpoints.into_iter().next().unwrap_or_default();
        worker.endpoints.insert(rank, endpoint);
        worker.links.insert(rank, source.link);
        if let Some(replay) = source.replay {
            worker.replay_endpoints.insert(rank, replay);
        }
    }
    Ok(Json(workers.into_values().collect::<Vec<_>>()))
}

// === impl Instance ===

impl<'de> Deserialize<'de> for Instance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Instance;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string that is not empty, or an unsigned integer")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Instance, E> {
                Ok(Instance(n.to_string()))
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<Instance, E> {
                if s.is_empty() {
                    return Err(E::invalid_value(de::Unexpected::Str(s), &self));
                }
                Ok(Instance(s.to_owned()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
