"""Link PyTorch's names to PyTorch's documentation: once in each section, once in a page's code.

The addresses come from the inventory that `intersphinx` reads from the repository. What is linked
is remembered for the index of names.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.intersphinx import InventoryAdapter

SHORT = {"torch.nn.": "nn.", "torch.nn.functional.": "F."}
CALLED = {
    "eval": "torch.nn.Module.eval",
    "train": "torch.nn.Module.train",
    "backward": "torch.Tensor.backward",
}
"""Words of every day that are a name where they are called."""
ALSO = {
    "torch.inference_mode": "torch.autograd.grad_mode.inference_mode",
    "torch.set_grad_enabled": "torch.autograd.grad_mode.set_grad_enabled",
    "torch.nn.Flatten": "torch.nn.modules.flatten.Flatten",
    "torch.nn.Parameter": "torch.nn.parameter.Parameter",
    "torch.utils.data.DistributedSampler": "torch.utils.data.distributed.DistributedSampler",
}
"""Names in use that PyTorch documents under another."""
RECEIVER = re.compile(r"(?:model|net|module|optimizer|loss|backbone|encoder|layer)\.(?=\w+\()")


def name_in(literal: str, spellings: dict[str, str]) -> str | None:
    """The full name that a piece of inline code stands for, if it is one of PyTorch's."""
    code = RECEIVER.sub("", literal.removeprefix("with ").removeprefix("@").rstrip(":"), count=1)
    found = re.fullmatch(r"([\w.]+)(\(.*\))?", code)
    if found is None:
        return None
    word, call = found.groups()
    return CALLED[word] if call and word in CALLED else spellings.get(word)


def spellings_of(names: dict[str, str]) -> dict[str, str]:
    """Every way in which the text writes a name, with the full name."""
    spelt: dict[str, str] = {}
    last = Counter(name.rpartition(".")[2] for name in names)
    for name in names:
        spelt[name] = name
        for long, short in SHORT.items():
            if name.startswith(long) and "." not in name.removeprefix(long):
                spelt[short + name.removeprefix(long)] = name
        word = name.rpartition(".")[2]
        # A name of its own: one with a capital or an underscore, that no other name ends in.
        if last[word] == 1 and re.search(r"[A-Z].*[a-z]|\w_\w", word):
            spelt[word] = name
    return spelt


class Names(NamedTuple):
    """What the inventory knows: the address of each name, and the names by their spellings."""

    addresses: dict[str, str]
    spellings: dict[str, str]


@cache
def names_of(env: BuildEnvironment) -> Names:
    """Read the inventory, once for all pages; some names are in use under a second one."""
    inventory = InventoryAdapter(env).main_inventory
    found = {
        name: item[2]
        for kind, items in inventory.items()
        if kind.startswith("py:")
        for name, item in items.items()
    }
    in_use = {name: found.pop(documented) for name, documented in ALSO.items()}
    return Names(found | in_use, spellings_of(found | in_use))


class Mention(NamedTuple):
    """A section that names something of PyTorch's: its page, its anchor and its title."""

    page: str
    anchor: str
    title: str


def _title(section: nodes.section) -> str:
    title = section.next_node(nodes.title)
    return title.astext() if title else ""


def link_names(app: Sphinx, doctree: nodes.document) -> None:
    """Link the first mention in each section."""
    names = names_of(app.env)
    seen: set[tuple[str, str]] = set()
    mentions: dict[str, list[Mention]] = app.env.__dict__.setdefault("torch_mentions", {})
    for literal in list(doctree.findall(nodes.literal)):
        name = name_in(literal.astext(), names.spellings)
        section = around(literal, nodes.section)
        if name is None or section is None or around(literal, nodes.reference, nodes.title):
            continue
        anchor = section["ids"][0]
        if (name, anchor) in seen:
            continue
        seen.add((name, anchor))
        mentions.setdefault(name, []).append(Mention(app.env.docname, anchor, _title(section)))
        address = names.addresses[name]
        link = nodes.reference("", "", refuri=address, internal=False, classes=["torch-name"])
        literal.parent.replace(literal, link)
        link += literal


NAME_IN_CODE = re.compile(
    r'<span class="n">\w+</span>(?:<span class="o">\.</span><span class="n">\w+</span>)+'
)


def link_code(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Link the first mention of a name in the code of a page."""
    names = names_of(app.env)
    seen: set[str] = set()

    def linked(match: re.Match[str]) -> str:
        name = names.spellings.get(re.sub(r"<[^>]+>", "", match[0]))
        if name is None or name in seen:
            return match[0]
        seen.add(name)
        return f'<a class="torch-name" href="{names.addresses[name]}">{match[0]}</a>'

    if "body" in context:
        context["body"] = NAME_IN_CODE.sub(linked, context["body"])


def around(node: nodes.Node | None, *kinds: type) -> Any:
    """The nearest node of one of the kinds that a node stands in, or None."""
    while node is not None and not isinstance(node, kinds):
        node = node.parent
    return node


def setup(app: Sphinx) -> dict[str, bool]:
    """After the modes got their colours, which look at the literal alone."""
    app.connect("doctree-read", link_names, priority=600)
    app.connect("html-page-context", link_code)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
