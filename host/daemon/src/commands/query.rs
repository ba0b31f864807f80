use super::print::Out;
use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use penstock_event::{By, Query};
use penstock_query::{AnswerBody, QueryError, client};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `penstock query`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock query --model m --tokens 1,2,3,4
  penstock query --model m --tokens-file prompt.json --json
  penstock query --zmq tcp://127.0.0.1:7781 --model m --engine-hashes 15167666314026195492")]
pub struct Args {
    /// The daemon's HTTP door.
    #[arg(long, default_value = "http://127.0.0.1:7780", conflicts_with = "zmq")]
    http: String,
    /// The daemon's ZeroMQ door, instead.
    #[arg(long)]
    zmq: Option<String>,
    /// Model, as the sources name it.
    #[arg(long, default_value = "")]
    model: String,
    /// Adapter (LoRA) name.
    #[arg(long, default_value = "")]
    lora: String,
    /// Cache salt.
    #[arg(long, default_value = "")]
    salt: String,
    /// The prompt's tokens.
    #[arg(long, value_delimiter = ',')]
    tokens: Vec<u32>,
    /// The prompt's tokens: a file with a JSON list.
    #[arg(long)]
    tokens_file: Option<PathBuf>,
    /// Token hashes of consecutive blocks.
    #[arg(long, value_delimiter = ',')]
    token_hashes: Vec<u64>,
    /// The engine's own block hashes.
    #[arg(long, value_delimiter = ',')]
    engine_hashes: Vec<u64>,
    /// Ask this plugin instead of the default one.
    #[arg(long)]
    plugin: Option<String>,
    /// Longest wait, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    deadline: u64,
    /// Answer for stale sources too.
    #[arg(long)]
    stale: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Asks once and prints who holds what.
pub fn run(args: &Args) -> Result<ExitCode> {
    let query = Query {
        model: args.model.clone(),
        adapter: args.lora.clone(),
        salt: args.salt.clone(),
        by: by(args)?,
        deadline: Duration::from_millis(args.deadline),
        include_stale: args.stale,
    };
    let plugin = args.plugin.as_deref();
    let answer = match &args.zmq {
        Some(endpoint) => client::zmq(&with_scheme("tcp", endpoint), plugin, &query),
        None => client::http(&with_scheme("http", &args.http), plugin, &query),
    };
    let answer = answer.map_err(|error| told(error, &args.model))?;
    let mut out = Out::new();
    if args.json {
        out.line(serde_json::to_string(&answer)?)?;
    } else {
        print(&mut out, &answer)?;
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// `localhost:7780` as people write it.
fn with_scheme(scheme: &str, door: &str) -> String {
    match door.contains("://") {
        true => door.into(),
        false => format!("{scheme}://{door}"),
    }
}

/// An unknown model is told with its name, since the daemon tells only the others.
fn told(error: QueryError, model: &str) -> anyhow::Error {
    let QueryError::Refused(body) = &error else {
        return error.into();
    };
    let Some(served) = &body.models else {
        return error.into();
    };
    let asked = match model {
        "" => "without --model, only sources that name no model are asked".into(),
        model => format!("no source serves {model:?}"),
    };
    let quoted: Vec<String> = served.iter().map(|model| format!("{model:?}")).collect();
    match quoted.as_slice() {
        [] => anyhow::anyhow!("{asked}; no source is known yet (penstock ctl sources)"),
        quoted => anyhow::anyhow!("{asked}; served: {}", quoted.join(", ")),
    }
}

fn by(args: &Args) -> Result<By> {
    let mut tokens = args.tokens.clone();
    if let Some(path) = &args.tokens_file {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let read = serde_json::from_str(&text);
        tokens = read.with_context(|| format!("{}: not a JSON list of tokens", path.display()))?;
    }
    let given = [&args.token_hashes, &args.engine_hashes];
    match (tokens.is_empty(), given.map(Vec::is_empty)) {
        (false, [true, true]) => Ok(By::Tokens(tokens.into())),
        (true, [false, true]) => Ok(By::TokenHashes(args.token_hashes.clone().into())),
        (true, [true, false]) => Ok(By::EngineHashes(args.engine_hashes.clone().into())),
        (true, [true, true]) => {
            bail!("ask by what? Give --tokens, --tokens-file, --token-hashes or --engine-hashes")
        }
        _ => bail!("give tokens, token hashes or engine hashes, one of them"),
    }
}

fn print(out: &mut Out, answer: &AnswerBody) -> Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["source", "tokens", "position", "complete", "link"]);
    for (name, at) in &answer.positions {
        let rank = |r: &str| {
            r.rsplit_once("/dp")
                .and_then(|(_, n)| n.parse().ok())
                .unwrap_or(0)
        };
        let ranks = answer.scores.get(&at.instance);
        let tokens = ranks.and_then(|ranks| ranks.get(&penstock_query::Rank(rank(name))));
        let position = match (at.epoch, at.sequence) {
            (Some(epoch), Some(sequence)) => format!("{epoch}/{sequence}"),
            _ => "none yet".into(),
        };
        let complete = match (at.complete, at.verified) {
            (true, true) => "yes",
            (true, false) => "unverified",
            (false, _) => "no",
        };
        table.add_row([
            name.to_string(),
            tokens.copied().unwrap_or(0).to_string(),
            position,
            complete.into(),
            at.link.to_string(),
        ]);
    }
    out.line(table)?;
    for name in &answer.unavailable {
        out.line(format_args!("unavailable: {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_query::{Code, ErrorBody};

    fn refused(models: &[&str], asked: &str) -> String {
        let mut body = ErrorBody::new(Code::NoModel, "no source serves that model");
        body.models = Some(models.iter().map(ToString::to_string).collect());
        told(QueryError::Refused(body), asked).to_string()
    }

    #[test]
    fn an_unknown_model_is_named_with_those_served() {
        let text = refused(&["tiny", "large"], "tny");
        assert_eq!(text, r#"no source serves "tny"; served: "tiny", "large""#);
        assert!(refused(&["tiny"], "").contains("--model"));
        assert!(refused(&[], "tiny").contains("no source is known yet"));
    }

    #[test]
    fn a_door_without_a_scheme_gets_one() {
        assert_eq!(
            with_scheme("http", "localhost:7780"),
            "http://localhost:7780"
        );
        assert_eq!(with_scheme("tcp", "ipc:///run/d"), "ipc:///run/d");
    }
}
