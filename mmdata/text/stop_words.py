"""Short lists of words that carry no meaning of their own: what a caption made of nothing else does not say.

Short on purpose. Larger lists (stopwords-iso has 1,300 English ones) hold "face", "fire" or "computer", which are all
there is to see in many pictures. English: the list of the Snowball project (M. Porter, R. Boulton; BSD
3-clause) with its usual contractions. The others: articles, pronouns, prepositions, conjunctions and forms of
to be and to have, after the same project's lists; Chinese: particles, pronouns, measure words and conjunctions.
"""

from __future__ import annotations

import functools

_LISTS = {
    "en": """
        i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers
        herself it its itself they them their theirs themselves what which who whom this that these those am is
        are was were be been being have has had having do does did doing would should could ought a an the and
        but if or because as until while of at by for with about against between into through during before
        after above below to from up down in out on off over under again further then once here there when
        where why how all any both each few more most other some such no nor not only own same so than too very
        can will just isn't aren't wasn't weren't hasn't haven't hadn't doesn't don't didn't won't wouldn't
        shan't shouldn't can't cannot couldn't i'm you're he's she's it's we're they're i've you've we've
        they've that's who's what's here's there's s t
    """,
    "zh": """
        的 地 得 了 着 过 吗 呢 吧 啊 呀 哦 嘛 啦 哇 之 其 所 者 也 又 还 都 就 才 很 太 更 最 再 只 不 没 没有
        是 有 在 和 与 及 或 或者 而 而且 但 但是 因为 所以 如果 虽然 然后 并 并且 以 以及 于 从 到 向 往 对
        对于 关于 把 被 给 让 跟 同 比 为 由 按 用 等 我 你 您 他 她 它 我们 你们 他们 她们 它们 自己 这 那 哪
        这个 那个 这些 那些 这里 那里 哪里 这样 那样 怎么 什么 谁 个 一个 一些 些 每 各 某 该 此 上 下 里 中 内
        外 时 会 能 可以 要 想 已 已经 曾 将 正 正在
    """,
    "de": """
        der die das den dem des ein eine einen einem einer eines und oder aber nicht kein keine ich du er sie
        es wir ihr mich dich ihn uns euch mein dein sein unser euer dieser diese dieses jener jene jenes ist
        sind war waren bin bist seid wird werden wurde hat haben hatte zu zum zur von vom mit in im ins an am
        auf aus bei nach vor unter ueber über durch für gegen ohne um zwischen als wie wenn weil dass so auch
        nur noch schon sehr hier da dort
    """,
    "fr": """
        le la les l un une des du de d et ou mais ne pas ni que qui quoi dont où ce cet cette ces ceci cela ça
        je tu il elle on nous vous ils elles me te se lui leur eux moi toi mon ma mes ton ta tes son sa ses
        notre nos votre vos leurs est sont était étaient être suis es sommes êtes ai as a avons avez ont avait
        avoir à au aux en dans par pour sur sous avec sans chez entre vers y si plus très même aussi
    """,
    "es": """
        el la los las un una unos unas de del al y e o u pero no ni que quien cual cuyo donde este esta estos
        estas ese esa esos esas aquel aquella esto eso yo tú él ella nosotros vosotros ellos ellas me te se le
        les lo nos os mi mis tu tus su sus nuestro nuestra es son era eran ser soy eres somos fue está están
        estar hay ha han había a ante con contra desde en entre hacia hasta para por según sin sobre tras como
        si más muy también ya
    """,
    "ja": """
        の は が を に へ と で も や か から まで より て た だ です ます ました でした ません ある あり いる
        い する し した この その あの どの これ それ あれ どれ ここ そこ あそこ という として について さ れ
        ない なく ば な ね よ
    """,
}
STOP_WORDS = {code: frozenset(words.split()) for code, words in _LISTS.items()}
ALL = frozenset[str]().union(*STOP_WORDS.values())


@functools.lru_cache(maxsize=256)
def stop_words(language: str | None) -> frozenset[str]:
    """The list of a language (`en`, also `en-GB`), of all languages together where there is none for it."""
    return STOP_WORDS.get((language or "").lower().partition("-")[0], ALL)
