"""Small projects in what people write: a chain of layers, each defined and called in a way of its own.

In the templates § is a whole number that an edit may change, NAME the function that the layer
defines and CALL the one below it.
"""

import re
from dataclasses import dataclass

KINDS: dict[str, str] = {
    "plain": "def NAME(x):\n    return CALL(x) + §\n",
    "constant": "LIMIT_NAME = §\ndef NAME(x):\n    return CALL(x) * 3 + LIMIT_NAME\n",
    "nested constant": """
TABLE_NAME = {"a": [§, {"b": (§,)}], "c": {§}}
def NAME(x):
    return CALL(x) + TABLE_NAME["a"][0] + TABLE_NAME["a"][1]["b"][0] + sum(TABLE_NAME["c"])
""",
    "default": "K_NAME = §\ndef NAME(x, by=K_NAME, *, other=[§]):\n    return CALL(x) + by + other[0]\n",
    "default lambda": "def NAME(x, by=lambda x: CALL(x) + §):\n    return by(x) + 1\n",
    "default call": "def made_NAME():\n    return §\ndef NAME(x, by=made_NAME()):\n    return CALL(x) + by\n",
    "closure": """
def outer_NAME():
    factor = §
    def inner(x):
        return CALL(x) * 2 + factor
    return inner
NAME = outer_NAME()
""",
    "closure counter": """
def outer_NAME():
    count = §
    def inner(x):
        nonlocal count
        count += §
        return CALL(x) + count
    return inner
NAME = outer_NAME()
""",
    "nested": """
def NAME(x):
    def inner(y, z=§):
        return CALL(y) + z
    return inner(x)
""",
    "lambda": "NAME = lambda x: CALL(x) + §\n",
    "two lambdas": "other_NAME, NAME = lambda x: x + §, lambda x: CALL(x) + §\n",
    "lambdas in a loop": "FS_NAME = [lambda x, n=n: CALL(x) + n for n in (§, §)]\ndef NAME(x):\n    return FS_NAME[1](x)\n",
    "decorator": """
import functools
def twice_NAME(function):
    @functools.wraps(function)
    def wrapper(x):
        return function(x) * 2 + §
    return wrapper
@twice_NAME
def NAME(x):
    return CALL(x) + §
""",
    "decorator with an argument": """
def add_NAME(n):
    def decorate(function):
        def wrapper(x):
            return function(x) + n
        return wrapper
    return decorate
@add_NAME(§)
def NAME(x):
    return CALL(x) + §
""",
    "decorator that forgets": """
KEPT_NAME = []
def keep_NAME(function):
    KEPT_NAME.append(function)
@keep_NAME
def hidden_NAME(x):
    return CALL(x) + §
def NAME(x):
    return KEPT_NAME[-1](x)
""",
    "class decorator": """
def plus_NAME(cls):
    cls.more = §
    cls.again = lambda self, x: CALL(x) + §
    return cls
@plus_NAME
class C_NAME:
    pass
def NAME(x):
    return C_NAME().again(x) + C_NAME.more
""",
    "method": """
class C_NAME:
    START = §
    def run(self, x):
        return CALL(x) + self.START + self.more()
    def more(self):
        return §
def NAME(x):
    return C_NAME().run(x)
""",
    "inheritance": """
class Base_NAME:
    def run(self, x):
        return CALL(x) + self.hook() + §
    def hook(self):
        return §
class Mixin_NAME:
    def hook(self):
        return super().hook() + §
class C_NAME(Mixin_NAME, Base_NAME):
    def run(self, x):
        return super().run(x) + §
def NAME(x):
    return C_NAME().run(x)
""",
    "property": """
import functools
class C_NAME:
    @property
    def one(self):
        return §
    @functools.cached_property
    def two(self):
        return CALL(1) + §
    @staticmethod
    def three(x):
        return CALL(x) + §
    @classmethod
    def four(cls):
        return cls.FOUR
    FOUR = §
def NAME(x):
    c = C_NAME()
    return c.one + c.two + c.three(x) + c.four()
""",
    "set after the class": """
class C_NAME:
    pass
def late_NAME(self, x):
    return CALL(x) + self.more
C_NAME.run = late_NAME
C_NAME.more = §
def NAME(x):
    return C_NAME().run(x)
""",
    "dataclass": """
from dataclasses import dataclass, field
@dataclass
class C_NAME:
    a: int = §
    b: list = field(default_factory=lambda: [§])
    c: int = field(init=False, default=0)
    def __post_init__(self):
        self.c = CALL(self.a) + §
def NAME(x):
    c = C_NAME()
    return c.a + c.b[0] + c.c + x
""",
    "dataclass parent": """
from dataclasses import dataclass, fields
@dataclass
class P_NAME:
    a: int = §
@dataclass(order=True)
class C_NAME(P_NAME):
    b: int = §
def NAME(x):
    return CALL(x) + sum(f.default for f in fields(C_NAME)) * (C_NAME() > C_NAME(0, 0))
""",
    "named tuple": """
from typing import NamedTuple
from collections import namedtuple
class T_NAME(NamedTuple):
    a: int = §
    def total(self):
        return self.a + §
U_NAME = namedtuple("U_NAME", "a b", defaults=(§,))
def NAME(x):
    return CALL(x) + T_NAME().total() + U_NAME(1).b
""",
    "enum": """
from enum import Enum, IntEnum, auto
class E_NAME(Enum):
    A = §
    B = auto()
    def double(self):
        return self.value * 2 + §
class I_NAME(IntEnum):
    A = §
PICK_NAME = E_NAME.B
def NAME(x):
    return CALL(x) + PICK_NAME.double() + E_NAME["A"].value + I_NAME.A
""",
    "cached": """
import functools
@functools.lru_cache(maxsize=None)
def slow_NAME(x):
    return CALL(x) + §
@functools.cache
def NAME(x):
    return slow_NAME(x) + §
""",
    "single dispatch": """
import functools
@functools.singledispatch
def by_type_NAME(x):
    return 0
@by_type_NAME.register
def _(x: int):
    return CALL(x) + §
@by_type_NAME.register(str)
def _(x):
    return §
def NAME(x):
    return by_type_NAME(x) + by_type_NAME("a")
""",
    "dispatch method": """
import functools
class C_NAME:
    @functools.singledispatchmethod
    def run(self, x):
        return 0
    @run.register
    def _(self, x: int):
        return CALL(x) + §
    add = functools.partialmethod(run)
def NAME(x):
    return C_NAME().run(x) + C_NAME().add(x)
""",
    "partial": """
import functools
def power_NAME(x, n):
    return CALL(x) * 2 + n
NAME = functools.partial(power_NAME, n=§)
""",
    "table of functions": """
def a_NAME(x):
    return CALL(x) + §
TABLE_NAME = {"a": a_NAME, "b": [lambda x: x + §]}
def NAME(x):
    return TABLE_NAME["a"](x) + TABLE_NAME["b"][0](x)
""",
    "method caller": """
import operator
class C_NAME:
    value = §
    def run(self, x):
        return CALL(x) + §
def NAME(x):
    return operator.methodcaller("run", x)(C_NAME()) + operator.attrgetter("value")(C_NAME)
""",
    "reduce of getattr": """
import functools
class C_NAME:
    class Inner:
        value = §
def NAME(x):
    return CALL(x) + functools.reduce(getattr, ["Inner", "value"], C_NAME)
""",
    "computed name": """
class C_NAME:
    def do_it(self, x):
        return CALL(x) + §
    def run(self, what, x):
        return getattr(self, "do_" + what)(x)
def NAME(x):
    return C_NAME().run("it", x)
""",
    "computed global": """
def hidden_NAME(x):
    return CALL(x) + §
def NAME(x):
    return globals()["hidden" + "_NAME"](x)
""",
    "eval": """
def hidden_NAME(x):
    return CALL(x) + §
def NAME(x):
    return eval("hidden_NAME(x) + §")
""",
    "exec": """
SPACE_NAME = {"call": lambda x: CALL(x)}
exec("def hidden(x):\\n    return call(x) + §", SPACE_NAME)
def NAME(x):
    return SPACE_NAME["hidden"](x)
""",
    "metaclass": """
class Meta_NAME(type):
    def __new__(mcs, name, bases, body):
        body["more"] = §
        return super().__new__(mcs, name, bases, body)
    def make(cls, x):
        return CALL(x) + cls.more + §
class C_NAME(metaclass=Meta_NAME):
    pass
def NAME(x):
    return C_NAME.make(x)
""",
    "subclass hook": """
class Base_NAME:
    made = []
    def __init_subclass__(cls, extra=0, **rest):
        Base_NAME.made.append(cls)
        cls.extra = extra
class Child_NAME(Base_NAME, extra=§):
    def run(self, x):
        return CALL(x) + §
def NAME(x):
    return sum(c().run(x) + c.extra for c in Base_NAME.made)
""",
    "subclasses": """
class Base_NAME:
    pass
class Child_NAME(Base_NAME):
    def run(self, x):
        return CALL(x) + §
def NAME(x):
    return sum(c().run(x) for c in Base_NAME.__subclasses__())
""",
    "descriptor": """
class D_NAME:
    def __init__(self, n):
        self.n = n
    def __set_name__(self, owner, name):
        self.size = len(name)
    def __get__(self, instance, owner):
        return CALL(self.n) + self.size + §
class C_NAME:
    value = D_NAME(§)
def NAME(x):
    return C_NAME().value + x
""",
    "instance": """
class C_NAME:
    def __init__(self, n):
        self.n = n
    def __call__(self, x):
        return CALL(x) + self.n + §
NAME = C_NAME(§)
""",
    "bound method": """
class C_NAME:
    def __init__(self, n):
        self.n = n
    def run(self, x):
        return CALL(x) + self.n + §
NAME = C_NAME(§).run
""",
    "slots": """
class C_NAME:
    __slots__ = ("n",)
    def __init__(self, n=§):
        self.n = n
    def __add__(self, other):
        return CALL(self.n) + other + §
ONE_NAME = C_NAME(§)
def NAME(x):
    return ONE_NAME + x
""",
    "instance with everything": """
class C_NAME:
    def __init__(self):
        self.f = lambda x: CALL(x) + §
        self.items = [self, §]
        self.gen = (i for i in [§])
ONE_NAME = C_NAME()
def NAME(x):
    return ONE_NAME.f(x) + ONE_NAME.items[1] + sum(C_NAME().gen)
""",
    "generator": """
def gen_NAME(x):
    yield from (CALL(i) + § for i in range(x))
    yield §
def NAME(x):
    return sum(gen_NAME(x))
""",
    "generator object": "GEN_NAME = (CALL(i) + § for i in [1, §])\ndef NAME(x):\n    return x + next(GEN_NAME)\n",
    "coroutine": """
class Wait_NAME:
    async def __aenter__(self):
        return §
    async def __aexit__(self, *rest):
        return None
async def run_NAME(x):
    async with Wait_NAME() as n:
        return CALL(x) + n
def NAME(x):
    try:
        run_NAME(x).send(None)
    except StopIteration as done:
        return done.value + §
""",
    "context": """
import contextlib
@contextlib.contextmanager
def around_NAME(x):
    yield CALL(x) + §
def NAME(x):
    with around_NAME(x) as value:
        return value + §
""",
    "match": """
class P_NAME:
    __match_args__ = ("a",)
    def __init__(self, a):
        self.a = a
def NAME(x):
    match P_NAME(CALL(x)):
        case P_NAME(a) if a > §:
            return a + §
        case P_NAME(a=other):
            return other - §
""",
    "walrus": "def NAME(x):\n    return (y := CALL(x) + §) + sum(z for i in range(3) if (z := i + y) > §)\n",
    "comprehension": "NS_NAME = {k: v for k, v in [(1, §)]}\ndef NAME(x):\n    return sum([CALL(i) + n for i in range(x) for n in NS_NAME.values()])\n",
    "state": """
STATE_NAME = {"n": 0}
STATE_NAME["n"] += §
STATE_NAME.update(m=§)
COUNT_NAME = 0
for _i in range(§):
    COUNT_NAME += _i
def NAME(x):
    global COUNT_NAME
    COUNT_NAME += 1
    return CALL(x) + STATE_NAME["n"] + STATE_NAME["m"] + COUNT_NAME
""",
    "conditional": """
if § > 1:
    def hidden_NAME(x):
        return CALL(x) + §
else:
    def hidden_NAME(x):
        return CALL(x) - §
def NAME(x):
    return hidden_NAME(x)
""",
    "fallback import": """
try:
    import nothing_that_exists as fast_NAME
except ImportError:
    class fast_NAME:
        n = §
        @staticmethod
        def run(x):
            return CALL(x) + §
def NAME(x):
    return fast_NAME.run(x) + fast_NAME.n
""",
    "function attribute": """
def NAME(x):
    return CALL(x) + NAME.more + NAME.how(x)
NAME.more = §
NAME.how = lambda x: x + §
""",
    "attribute of another": """
def other_NAME(x):
    return x
other_NAME.more = {"n": §}
def NAME(x):
    f = other_NAME
    return CALL(x) + f.more["n"]
""",
    "defaults replaced": """
def NAME(x, n=1):
    return CALL(x) + n
NAME.__defaults__ = (§,)
""",
    "docstring read": """
def other_NAME():
    "§"
def NAME(x):
    return CALL(x) + int(other_NAME.__doc__)
""",
    "class docstring": """
class C_NAME:
    "§"
def NAME(x):
    return CALL(x) + int(C_NAME.__doc__)
""",
    "source read": """
import inspect
def other_NAME():
    return § + §
def NAME(x):
    return CALL(x) + len(inspect.getsource(other_NAME)) + other_NAME.__code__.co_consts[1]
""",
    "annotation read": """
import typing
from typing import Annotated
def other_NAME(a: Annotated[int, §], b: "Annotated[int, §]"):
    return a
class C_NAME:
    a: Annotated[int, §]
def NAME(x):
    hints = typing.get_type_hints(other_NAME, include_extras=True)
    more = typing.get_type_hints(C_NAME, include_extras=True)
    return CALL(x) + sum(h.__metadata__[0] for h in (*hints.values(), *more.values()))
""",
    "annotated alias": """
import typing
from typing import Annotated
Size_NAME = Annotated[int, §]
class C_NAME:
    a: "Size_NAME"
def NAME(x):
    return CALL(x) + typing.get_type_hints(C_NAME, include_extras=True)["a"].__metadata__[0]
""",
    "made by type": """
def run_NAME(self, x):
    return CALL(x) + self.n
C_NAME = type("C_NAME", (), {"run": run_NAME, "n": §, "more": lambda self: §})
def NAME(x):
    return C_NAME().run(x) + C_NAME().more()
""",
    "class in a function": """
def make_NAME(n):
    class Local:
        m = n + §
        def run(self, x):
            return CALL(x) + n + self.m
    return Local
L_NAME = make_NAME(§)
def NAME(x):
    return L_NAME().run(x)
""",
    "getattr of a class": """
class C_NAME:
    def __getattr__(self, name):
        return CALL(len(name)) + §
    def __getitem__(self, key):
        return §
    def __class_getitem__(cls, key):
        return §
    def __bool__(self):
        return § > 2
def NAME(x):
    return C_NAME().anything + C_NAME()[0] + C_NAME[0] + bool(C_NAME()) + x
""",
    "library subclass": """
import json
import collections
class Encoder_NAME(json.JSONEncoder):
    def default(self, o):
        return CALL(3) + §
class D_NAME(collections.UserDict):
    def __missing__(self, key):
        return §
def NAME(x):
    return int(json.dumps(object(), cls=Encoder_NAME)) + D_NAME()["a"] + x
""",
    "library callback": """
import re
import collections
DD_NAME = collections.defaultdict(lambda: §)
def digits_NAME(match):
    return str(CALL(int(match[0])) + §)
RE_NAME = re.compile("[0-§]+")
def NAME(x):
    return int(RE_NAME.sub(digits_NAME, "1 1".replace(" ", ""))) + DD_NAME["a"] + x
""",
    "library patched": """
import math
def own_sqrt_NAME(x):
    return CALL(x) + §
math.sqrt_NAME = own_sqrt_NAME
def NAME(x):
    import math
    return math.sqrt_NAME(x)
""",
    "builtin patched": """
import builtins
def helper_NAME(x):
    return CALL(x) + §
builtins.helper_of_NAME = helper_NAME
def NAME(x):
    return helper_of_NAME(x)
""",
    "star arguments": """
ARGS_NAME = (§,)
KW_NAME = dict(b=§)
def add_NAME(*args, **kw):
    return sum(args) + sum(kw.values())
def NAME(x):
    return CALL(x) + add_NAME(*ARGS_NAME, **KW_NAME)
""",
    "string template": """
class C_NAME:
    n = §
def NAME(x):
    return CALL(x) + int("{0.n}".format(C_NAME)) + int(f"{C_NAME.n + §}")
""",
    "vars of a class": """
class C_NAME:
    n = §
def NAME(x):
    return CALL(x) + vars(C_NAME)["n"] + C_NAME.__dict__["n"]
""",
    "deleted": "hidden_NAME = §\nK_NAME = hidden_NAME + §\ndel hidden_NAME\ndef NAME(x):\n    return CALL(x) + K_NAME\n",
    "byte strings and floats": "B_NAME = b'a§'\nF_NAME = §.5\nC_NAME = §j\ndef NAME(x):\n    return CALL(x) + int(B_NAME[1:]) + int(F_NAME * 2) + int(C_NAME.imag)\n",
    "array": """
import numpy
A_NAME = numpy.arange(§)
O_NAME = numpy.array([§, "a", None], dtype=object)
def NAME(x):
    return CALL(x) + int(A_NAME.sum()) + O_NAME[0]
""",
    "weak": """
import weakref
class C_NAME:
    n = §
ONE_NAME = C_NAME()
R_NAME = weakref.ref(ONE_NAME)
def NAME(x):
    return CALL(x) + R_NAME().n
""",
    "context variable": """
import contextvars
V_NAME = contextvars.ContextVar("v", default=§)
def NAME(x):
    return CALL(x) + V_NAME.get()
""",
    "thread local": """
import threading
L_NAME = threading.local()
L_NAME.n = §
def NAME(x):
    return CALL(x) + L_NAME.n
""",
    "simple namespace": """
import types
S_NAME = types.SimpleNamespace(n=§, f=lambda x: CALL(x) + §)
P_NAME = types.MappingProxyType({"a": §})
def NAME(x):
    return S_NAME.f(x) + S_NAME.n + P_NAME["a"]
""",
    "total ordering": """
import functools
@functools.total_ordering
class C_NAME:
    def __init__(self, n):
        self.n = n
    def __eq__(self, other):
        return self.n == other.n
    def __lt__(self, other):
        return self.n < other.n + §
def NAME(x):
    return CALL(x) + (C_NAME(3) >= C_NAME(§))
""",
    "abstract": """
import abc
class A_NAME(abc.ABC):
    @abc.abstractmethod
    def run(self, x): ...
    def twice(self, x):
        return self.run(x) * 2 + §
class C_NAME(A_NAME):
    def run(self, x):
        return CALL(x) + §
def NAME(x, cls: type[A_NAME] = C_NAME):
    return cls().twice(x)
""",
    "own state": """
class C_NAME:
    def __init__(self, n):
        self.n = n
    def __getstate__(self):
        return {}
ONE_NAME = C_NAME(§)
def NAME(x):
    return CALL(x) + ONE_NAME.n
""",
    "own reduce": """
def none_NAME():
    return None
class C_NAME:
    def __init__(self, n):
        self.n = n
    def __reduce__(self):
        return (none_NAME, ())
ONE_NAME = C_NAME(§)
def NAME(x):
    return CALL(x) + ONE_NAME.n
""",
    "dict subclass": """
class D_NAME(dict):
    def __init__(self, *args):
        super().__init__(*args)
        self.more = §
ONE_NAME = D_NAME({"a": §})
def NAME(x):
    return CALL(x) + ONE_NAME["a"] + ONE_NAME.more
""",
    "seed at import": """
import random
random.seed(§)
def NAME(x):
    return CALL(x) + random.randint(0, 1000)
""",
    "setting at import": """
import decimal
decimal.getcontext().prec = §
def set_NAME(n):
    decimal.getcontext().Emax = n + 20
set_NAME(§)
def NAME(x):
    return CALL(x) + decimal.getcontext().prec + decimal.getcontext().Emax
""",
    "setting in a loop": """
import os
for _name, _value in {"UPTURN_TEST_NAME": "§"}.items():
    os.environ[_name] = _value
def NAME(x):
    import os
    return CALL(x) + int(os.environ["UPTURN_TEST_NAME"])
""",
    "registered by a class": """
ALL_NAME = {}
class Register_NAME:
    def __init__(self, key):
        self.key = key
    def __call__(self, function):
        ALL_NAME[self.key] = function
        return function
@Register_NAME("a")
def hidden_NAME(x):
    return CALL(x) + §
kept_NAME = Register_NAME("b")(lambda x: x + §)
def NAME(x):
    return ALL_NAME["a"](x) + ALL_NAME["b"](x)
""",
    "type variables": """
import typing
T_NAME = typing.TypeVar("T_NAME")
class C_NAME(typing.Generic[T_NAME]):
    n = §
    def run(self, x: T_NAME) -> T_NAME:
        return CALL(x) + self.n
class D_NAME(C_NAME[int]):
    pass
def NAME(x):
    return D_NAME().run(x)
""",
}

# How one module calls a function of another: text at its top, and what CALL becomes. M is the
# module, F the function.
WAYS: dict[str, tuple[str, str]] = {
    "import": ("import M", "M.F"),
    "from": ("from M import F", "F"),
    "from as": ("from M import F as f_F", "f_F"),
    "import as": ("import M as m_F", "m_F.F"),
    "star": ("from M import *", "F"),
    "lazy from": ("def l_F(x):\n    from M import F\n    return F(x)", "l_F"),
    "lazy import": ("def l_F(x):\n    import M\n    return M.F(x)", "l_F"),
    "lazy star": ("def l_F(x):\n    import importlib\n    return importlib.import_module('M').F(x)", "l_F"),
    "computed import": ("def l_F(x):\n    import importlib\n    return importlib.import_module('M'[:]).F(x)", "l_F"),
    "dunder import": ("def l_F(x):\n    return __import__('M').F(x)", "l_F"),
    "computed dunder import": ("def l_F(x):\n    return __import__('M' + '').F(x)", "l_F"),
    "early dynamic": ("import importlib\nd_F = importlib.import_module('M'[:])", "d_F.F"),
    "modules": ("import M, sys", "sys.modules['M'].F"),
    "getattr": ("import M", "getattr(M, 'F')"),
    "computed getattr": ("import M", "getattr(M, 'F'[:])"),
    "getattr alias": ("import M\ng_F = getattr", "g_F(M, 'F')"),
    "operator": ("import M, operator", "operator.attrgetter('F')(M)"),
    "method caller": ("import M, operator\nc_F = lambda x: operator.methodcaller('F', x)(M)", "c_F"),
    "module dict": ("import M", "M.__dict__['F']"),
    "module vars": ("import M", "vars(M)['F']"),
    "inspect": ("import M, inspect", "dict(inspect.getmembers(M))['F']"),
    "module as value": ("import M\nALL_F = {'m': M}", "ALL_F['m'].F"),
    "bound at import": ("import M\nb_F = M.F", "b_F"),
    "partial": ("import functools, M\np_F = functools.partial(M.F)", "p_F"),
    "table": ("import M\nt_F = {'a': [M.F]}", "t_F['a'][0]"),
    "class attribute": ("import M\nclass H_F:\n    f = staticmethod(M.F)", "H_F.f"),
    "inherited": ("import M\nclass H_F:\n    def f(self, x):\n        return M.F(x)\nclass I_F(H_F):\n    pass", "I_F().f"),
    "fallback": ("try:\n    from nothing_that_exists import F\nexcept ImportError:\n    from M import F", "F"),
    "conditional": ("if True:\n    import M as m_F\nelse:\n    m_F = None", "m_F.F"),
    "eval": ("import M\ndef e_F(x):\n    return eval('M.F(x)')", "e_F"),
    "format": ("import M\nimport operator\nr_F = lambda x: (lambda m: m.F)(M)(x)", "r_F"),
    "argument": ("import M\ndef a_F(x, m=M):\n    return m.F(x)", "a_F"),
    "local alias": ("import M\ndef a_F(x):\n    m = M\n    return m.F(x)", "a_F"),
    "walrus": ("import M\ndef a_F(x):\n    return (m := M).F(x)", "a_F"),
    "map": ("import M\ndef a_F(x):\n    return list(map(M.F, [x]))[0]", "a_F"),
    "global import": ("def l_F(x):\n    global F\n    from M import F\n    return F(x)", "l_F"),
    "class import": ("class H_F:\n    from M import F\n    run = F", "H_F.F"),
    "type checking": ("import typing\nif typing.TYPE_CHECKING:\n    import M\ndef l_F(x):\n    import M\n    return M.F(x)", "l_F"),
}
# How the module below is laid out: files by name ('' is its text), and what it is imported as.
PLACES: dict[str, tuple[dict[str, str], str]] = {
    "module": ({"M.py": ""}, "M"),
    "re-export": ({"p_M/__init__.py": "from .M import F\n", "p_M/M.py": ""}, "p_M"),
    "re-export by name": ({"p_M/__init__.py": "from .M import F as g\nF = g\n__all__ = ['F']\n", "p_M/M.py": ""}, "p_M"),
    "re-export of all": ({"p_M/__init__.py": "from p_M.M import *\n", "p_M/M.py": ""}, "p_M"),
    "submodule": ({"p_M/__init__.py": "", "p_M/M.py": ""}, "p_M.M"),
    "namespace package": ({"n_M/M.py": ""}, "n_M.M"),
    "lazy package": (
        {
            "p_M/__init__.py": "def __getattr__(name):\n    import importlib\n"
            "    if name != 'F':\n        raise AttributeError(name)\n"
            "    return getattr(importlib.import_module('.M', __name__), name)\n",
            "p_M/M.py": "",
        },
        "p_M",
    ),
    "patched by another": (
        {"M.py": "def F(x):\n    return 0\nimport q_M\n", "q_M.py": "", "q_M.py+": "import M\nM.F = F\n"},
        "M",
    ),
    "registered by another": (
        {"M.py": "REG = {}\nimport q_M\ndef F(x):\n    return REG['F'](x)\n", "q_M.py": "", "q_M.py+": "import M\nM.REG['F'] = F\n"},
        "M",
    ),
}
IDLE = ["# changed", '"""Changed."""', "\n\n\n"]


@dataclass(frozen=True)
class Layer:
    """One function of the chain: how it is written, called from above, and where it lies."""

    kind: str
    way: str
    place: str


def project(layers: list[Layer], numbers: list[int]) -> dict[str, str]:
    """The files of a project; `numbers` stand for each § in turn, from the first again at the end."""
    files: dict[str, str] = {}
    taken = 0

    def number(_: re.Match[str]) -> str:
        nonlocal taken
        taken += 1
        return str(numbers[(taken - 1) % len(numbers)])

    below = ("", "abs")
    for at in range(len(layers) - 1, -1, -1):
        layer = layers[at]
        name, module = f"f{at}", f"m{at}"
        body = KINDS[layer.kind].replace("NAME", name).replace("CALL", below[1])
        text = f"{below[0]}\n{re.sub('§', number, body)}"
        made, imported = PLACES[layer.place]
        for file, extra in made.items():
            path = file.removesuffix("+").replace("M", module)
            extra = re.sub(r"\bF\b", name, extra).replace("_M", f"_{module}")
            extra = re.sub(r"\bM\b", module, extra)
            files[path] = files.get(path, "") + (extra or text)
        target = imported.replace("M", module)
        head, call = (
            re.sub(r"\bM\b", target, re.sub(r"(?<![A-Z])F\b", name, part))
            for part in WAYS[layer.way]
        )
        below = (head, call)
    files["main.py"] = (
        f"{below[0]}\nimport upturn as up\n@up.step\ndef step(x):\n    return {below[1]}(x) + 1\n"
    )
    return files


def count(layers: list[Layer]) -> int:
    """How many numbers the project has."""
    return sum(KINDS[layer.kind].count("§") for layer in layers)
