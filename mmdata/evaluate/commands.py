"""Commands that ask a trained model: eval and chat. Nothing heavy is loaded until one runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mmdata.train.commands import tell

Trained = Annotated[str, typer.Argument(metavar="CKPT", help="run folder, its training file, or a checkpoint")]
Moved = Annotated[
    list[str] | None, typer.Argument(metavar="[a.b=c ...]", help="what has moved since, for instance llm.model=PATH")
]
Tokens = Annotated[int, typer.Option("--max-new-tokens", metavar="N", min=1, help="an answer ends here at the latest")]
TopP = Annotated[
    float, typer.Option("--top-p", metavar="P", min=0.0, max=1.0, help="draw from the likeliest that have P; 0: do not")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="of what is drawn")]


def add_commands(app: typer.Typer) -> None:
    """Add them to a command line."""
    app.command("eval")(evaluate)
    app.command("chat")(chat)


def evaluate(
    checkpoint: Trained,
    overrides: Moved = None,
    data: Annotated[
        str, typer.Option("--data", metavar="PATH", help="dataset, or file: LLaVA, COCO captions, VQA  [the run's own]")
    ] = "",
    images: Annotated[str, typer.Option("--images", metavar="DIR", help="media of such a file  [where it lies]")] = "",
    questions: Annotated[str, typer.Option("--questions", metavar="FILE", help="second file of VQA")] = "",
    split: Annotated[str, typer.Option("--split", help="of a dataset")] = "val",
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="TEXT", help="asks for captions; is said after questions of VQA")
    ] = "",
    max_samples: Annotated[
        int, typer.Option("--max-samples", metavar="N", min=0, help="drawn by the seed; 0: all")
    ] = 0,
    before: Annotated[bool, typer.Option("--before", help="also the state in which training began")] = False,
    show: Annotated[int, typer.Option("--show", metavar="N", min=0, help="print so many answers")] = 0,
    blind: Annotated[bool, typer.Option("--blind", help="also losses with blank media, by source")] = False,
    shuffle_media: Annotated[
        bool, typer.Option("--shuffle-media", help="control: each question with another one's media")
    ] = False,
    candidates: Annotated[
        int,
        typer.Option("--candidates", metavar="N", min=0, help="to rank by likelihood without embeddings"),
    ] = 0,
    name: Annotated[str, typer.Option("--name", help="of the results' folder in RUN/eval")] = "",
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="answers at once")] = 8,
    max_new_tokens: Tokens = 64,
    top_p: TopP = 0.0,
    seed: Seed = 0,
) -> None:
    """Let a checkpoint answer held-out questions: BLEU, ROUGE-L, CIDEr-D, VQA accuracy, error rates, retrieval.

    Writes RUN/eval/<name>/metrics.json and answers.jsonl. What cannot be asked has a line with its reason.

    Examples:  mmdata eval pipelines/train/align.yaml --before --show 5 --candidates 24
    |   mmdata eval runs/train/align --blind   |   mmdata eval runs/train/align --shuffle-media
    |   mmdata eval runs/train/instruct --data val2014.json --images val2014/ --prompt "Describe the picture."
    """
    from mmdata.evaluate.evaluation import EvalOptions
    from mmdata.evaluate.evaluation import evaluate as run
    from mmdata.evaluate.generate import Decoding
    from mmdata.train.quiet import quiet_libraries

    options = EvalOptions(
        data=data, images=images, questions=questions, split=split, prompt=prompt, name=name, max_samples=max_samples,
        seed=seed, batch_size=batch_size, candidates=candidates, shuffle_media=shuffle_media, blind=blind,
        before=before, show=show, decoding=Decoding(max_new_tokens, top_p, seed=seed),
    )  # fmt: skip
    quiet_libraries()
    run(checkpoint, overrides or [], options, tell)


def chat(
    checkpoint: Trained,
    overrides: Moved = None,
    image: Annotated[list[str] | None, typer.Option("--image", metavar="FILE", help="may be given again")] = None,
    video: Annotated[list[str] | None, typer.Option("--video", metavar="FILE", help="may be given again")] = None,
    audio: Annotated[list[str] | None, typer.Option("--audio", metavar="FILE", help="may be given again")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="answer this and end  [ask line by line]")
    ] = None,
    max_new_tokens: Tokens = 256,
    top_p: TopP = 0.0,
    seed: Seed = 0,
) -> None:
    """Talk with a checkpoint about pictures, films, sounds in any format; lines come from the terminal or a pipe.

    A model aligned on captions alone (template plain) tells what it sees and reads no words: --prompt "".

    Examples:  mmdata chat runs/train/instruct --image x.jpg --prompt "What is this?"
    |   mmdata chat runs/train/instruct --image a.jpg --image b.png
    """
    import sys

    from mmdata.evaluate.generate import Decoding
    from mmdata.evaluate.talk import Conversation, talk
    from mmdata.train.quiet import quiet_libraries
    from mmdata.train.restore import restore
    from mmdata.train.sections import Kind

    quiet_libraries()
    files: dict[Kind, list[str]] = {"image": image or [], "video": video or [], "audio": audio or []}
    conversation = Conversation(restore(checkpoint, overrides or []), files, Decoding(max_new_tokens, top_p, seed=seed))
    if prompt is not None:
        tell(conversation.ask(prompt))
    else:
        talk(conversation, sys.stdin, tell)
