"use strict";
// Formula text -> nodes -> numbers and derivatives. Text is parsed and never evaluated: what runs
// is a list of operations of a closed table, each a loop over an array. The grammar, the bounds
// and the rules of derivation are those of anygate.formulas; the rules themselves come from there
// (DATA.rules) and are read by this same parser.
const Formula = (() => {
  const MAX_LENGTH = 2000, MAX_PARTS = 600, MAX_DEPTH = 60, MAX_SIZE = 1000, MAX_POWER = 32, MAX_ROOT = 64;

  class FormulaError extends Error {
    constructor(message, position = -1) {
      super(message);
      this.name = "FormulaError";
      this.position = position;
    }
  }
  const fail = (message, part) => { throw new FormulaError(message, part ? part.position : -1); };

  // ---- text -> syntax tree -------------------------------------------------------------------

  const TOKEN = /\s*(?:(0[xX](?:_?[\da-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|(?:\d(?:_?\d)*(?:\.(?:\d(?:_?\d)*)?)?|\.\d(?:_?\d)*)(?:[eE][+-]?\d(?:_?\d)*)?)|([\p{L}_][\p{L}\p{N}_]*)|(\*\*|\/\/|<<|>>|<=|>=|==|!=|:=|[-+*/<>()=,&|^~%@]))/uy;

  function tokens(text) {
    const found = [];
    TOKEN.lastIndex = 0;
    let at = 0;
    while (text.slice(at).trim() !== "") {
      TOKEN.lastIndex = at;
      const match = TOKEN.exec(text);
      if (!match) {
        const position = at + text.slice(at).search(/\S/);
        throw new FormulaError(`'${text[position]}' cannot be used in a formula`, position);
      }
      const source = match[1] ?? match[2] ?? match[3];
      const position = TOKEN.lastIndex - source.length;
      const kind = match[1] !== undefined ? "number" : match[2] !== undefined ? "name" : "sign";
      if (kind === "number" && /[\p{L}\p{N}_.]/u.test(text[TOKEN.lastIndex] ?? ""))
        throw new FormulaError("this number cannot be read", position);
      found.push({ kind, text: kind === "name" ? source.normalize("NFKC") : source, position });
      at = TOKEN.lastIndex;
    }
    found.push({ kind: "end", text: "the end", position: text.length });
    return found;
  }

  const WORDS = new Set(["and", "or", "not", "if", "else"]);
  const REFUSED_WORDS = new Set(["in", "is", "for", "lambda", "import", "None", "True", "False", "await",
    "async", "yield", "assert", "break", "class", "continue", "def", "del", "elif", "except", "finally",
    "from", "global", "nonlocal", "pass", "raise", "return", "try", "while", "with", "as"]);
  const LEVELS = [["|"], ["^"], ["&"], ["<<", ">>"], ["+", "-"], ["*", "/", "//", "%", "@"]];

  // A tree of {kind, position, ...}; precedence as in Python.
  function syntax(text) {
    const list = tokens(text);
    let next = 0, depth = 0, open = 0;
    const peek = () => list[next];
    const is = (...signs) => peek().kind !== "number" && peek().kind !== "end" && signs.includes(peek().text);
    const take = () => list[next++];
    const expect = (sign) => (is(sign) ? take() : fail(`'${sign}' is missing before ${peek().text}`, peek()));

    function nested(read) {
      if (++depth > 400) throw new FormulaError("the formula is nested too deeply", peek().position);
      const result = read();
      depth -= 1;
      return result;
    }
    function ternary() {
      return nested(() => {
        const first = disjunction();
        if (!is("if")) return first;
        const position = first.position;
        take();
        const condition = disjunction();
        if (!is("else")) fail("'else' is missing", peek());
        take();
        return { kind: "choose", position, parts: [condition, first, ternary()] };
      });
    }
    function joined(word, inner) {
      const first = inner();
      if (!is(word)) return first;
      const parts = [first];
      while (is(word)) { take(); parts.push(inner()); }
      return { kind: word, position: first.position, parts };
    }
    const disjunction = () => joined("or", conjunction);
    const conjunction = () => joined("and", negation);
    function negation() {
      if (!is("not")) return comparison();
      const { position } = take();
      return nested(() => ({ kind: "not", position, parts: [negation()] }));
    }
    function comparison() {
      const first = binary(0);
      const signs = [], parts = [first];
      while (is("<", "<=", ">", ">=", "==", "!=", "in", "is")) { signs.push(take().text); parts.push(binary(0)); }
      return signs.length ? { kind: "compare", position: first.position, signs, parts } : first;
    }
    function binary(level) {
      if (level === LEVELS.length) return unary();
      let left = binary(level + 1);
      while (is(...LEVELS[level])) {
        const sign = take().text;
        const right = binary(level + 1);
        // a chain such as a + b - c is one node
        const chain = left.kind === "chain" && left.level === level && level >= 4 && !left.closed;
        if (chain) { left.parts.push(right); left.signs.push(sign); }
        else left = { kind: "chain", level, position: left.position, signs: ["", sign], parts: [left, right] };
      }
      return left;
    }
    function unary() {
      if (!is("-", "+", "~")) return power();
      const { text: sign, position } = take();
      return nested(() => ({ kind: "sign", sign, position, parts: [unary()] }));
    }
    function power() {
      const base = atom();
      if (!is("**")) return base;
      take();
      return nested(() => ({ kind: "power", position: base.position, parts: [base, unary()] }));
    }
    function atom() {
      const token = take();
      if (token.kind === "number") return { kind: "number", position: token.position, text: token.text, parts: [] };
      if (token.text === "(" && token.kind === "sign") {
        if (++open > 200) fail("the formula is nested too deeply", token);
        const inside = ternary();
        open -= 1;
        if (is(",")) fail("a tuple cannot be used here", peek());
        expect(")");
        if (is("(")) fail("only functions of the vocabulary can be called, by their plain name", peek());
        if (inside.kind === "chain") inside.closed = true;
        return inside;
      }
      if (token.kind !== "name") fail(token.kind === "end" ? "the formula ends too early" : `a value is missing before '${token.text}'`, token);
      if (WORDS.has(token.text) || REFUSED_WORDS.has(token.text)) fail(`'${token.text}' cannot be used here`, token);
      if (!is("(")) return { kind: "name", position: token.position, name: token.text, parts: [] };
      take();
      const parts = [], named = [];
      while (!is(")")) {
        const start = peek();
        if (start.kind === "name" && list[next + 1].text === "=" && list[next + 1].kind === "sign") {
          take(); take();
          if (named.some(([key]) => key === start.text)) fail(`${start.text} is given twice`, start);
          named.push([start.text, ternary()]);
        } else if (named.length) fail("a value without a name follows a named one", start);
        else parts.push(ternary());
        if (!is(")")) expect(",");
      }
      take();
      if (is("(")) fail("only functions of the vocabulary can be called, by their plain name", peek());
      return { kind: "call", position: token.position, name: token.text, parts, named };
    }
    const tree = ternary();
    if (peek().kind !== "end") fail(`'${peek().text}' does not belong here`, peek());
    return tree;
  }

  // Bounds the parts and the nesting, counted as Python's syntax tree counts them.
  function check_size(tree) {
    let count = 0, level = [tree];
    for (let depth = 0; level.length; depth++) {
      if (depth >= MAX_DEPTH) throw new FormulaError(`the formula is nested more than ${MAX_DEPTH} levels deep`);
      const below = [];
      for (const part of level) {
        below.push(...part.parts, ...(part.named ?? []).map(([, value]) => ({ kind: "named", parts: [value] })));
        count += { name: 1, call: 2, compare: part.signs?.length, sign: 1, not: 1, and: 1, or: 1, power: 1 }[part.kind] ?? 0;
        if (part.kind === "chain" && part.level < 4) count += 1;
      }
      count += below.length;
      if (count > MAX_PARTS) throw new FormulaError(`the formula has more than ${MAX_PARTS} parts; that is too many`);
      level = below;
    }
  }

  // ---- nodes: equal parts are one object ------------------------------------------------------
  // number {value}, x and other inputs {name}, add {parts, factors, constant}, mul {parts, powers,
  // factor}, comparisons, and, or, not, where, and the primitives by their name {parts}.

  const pool = new Map();
  let count = 0;
  function make(op, parts = [], more = {}) {
    const key = `${op}|${parts.map((p) => p.id).join()}|${JSON.stringify(more)}`;
    let node = pool.get(key);
    if (!node) {
      if (pool.size > 50000) pool.clear();
      const constant = op !== "input" && parts.every((p) => p.constant);
      const size = parts.reduce((sum, p) => sum + p.size, 1 + (op === "add" || op === "mul" ? parts.length : 0));
      node = { op, parts, id: ++count, constant, size, ...more };
      pool.set(key, node);
    }
    return node;
  }
  const CONDITIONS = new Set(["lt", "le", "gt", "ge", "and", "or", "not", "true", "false"]);
  const is_condition = (node) => CONDITIONS.has(node.op);

  function number(value, part) {
    if (!Number.isFinite(value)) fail("this part is not a finite real number", part);
    return make("number", [], { value: value === 0 ? 0 : value });
  }
  const input = (name) => make("input", [], { name });
  const ZERO = number(0), ONE = number(1);
  const X = input("x");
  const truth = (value) => make(value ? "true" : "false");

  // A sum: numbers are added up, equal terms get one factor (x - x is 0).
  function add(...terms) {
    let constant = 0;
    const found = new Map();
    const put = (node, factor) => {
      if (node.op === "number") constant += factor * node.value;
      else if (node.op === "add") {
        constant += factor * node.addend;
        node.parts.forEach((p, k) => put(p, factor * node.factors[k]));
      } else if (node.op === "mul" && node.factor !== 1) put(product(1, node.parts, node.powers), factor * node.factor);
      else found.set(node, (found.get(node) ?? 0) + factor);
    };
    terms.forEach((t) => put(t, 1));
    const kept = [...found].filter(([, factor]) => factor !== 0);
    if (!Number.isFinite(constant)) fail("this part is not a finite real number");
    if (!kept.length) return number(constant);
    if (kept.length === 1 && constant === 0) return mul(number(kept[0][1]), kept[0][0]);
    return make("add", kept.map(([n]) => n), { factors: kept.map(([, f]) => f), addend: constant });
  }
  function product(factor, parts, powers) {
    if (factor === 1 && parts.length === 1 && powers[0] === 1) return parts[0];
    return parts.length ? make("mul", parts, { powers, factor }) : number(factor);
  }
  // A product of powers: equal bases are collected (x*x is x**2, x/x is 1); 0 times anything is 0.
  function mul(...nodes) {
    let factor = 1;
    const found = new Map();
    const put = (node, power) => {
      if (node.op === "number") factor *= node.value ** power;
      else if (node.op === "mul" && Number.isInteger(power)) {
        factor *= node.factor ** power;
        node.parts.forEach((p, k) => put(p, node.powers[k] * power));
      } else found.set(node, (found.get(node) ?? 0) + power);
    };
    nodes.forEach((n) => put(n, 1));
    if (factor === 0) return ZERO;
    if (!Number.isFinite(factor)) fail("this part is not a finite real number");
    const kept = [...found].filter(([, power]) => power !== 0);
    for (const [, power] of kept)
      if (Math.abs(power) > MAX_POWER) fail(`a power may be at most ${MAX_POWER}`);
    return product(factor, kept.map(([n]) => n), kept.map(([, p]) => p));
  }
  function power(base, exponent, part) {
    if (base.op === "number") {
      const value = base.value ** exponent;
      if (value === 0 && base.value !== 0) fail("this number is outside the range of float64", part);
      return number(value, part);
    }
    if (exponent === 0) return ONE;
    if (base.op === "mul") {
      if (Number.isInteger(exponent)) {
        const inner = base.parts.map((p, k) => power(p, base.powers[k] * exponent, part));
        return mul(number(base.factor ** exponent, part), ...inner);
      }
      // sqrt(x**2) is abs(x)
      if (base.parts.length === 1 && base.powers[0] % 2 === 0 && base.factor > 0) {
        const total = base.powers[0] * exponent;
        const inner = Number.isInteger(total) && total % 2 === 0 ? base.parts[0] : primitive("abs", [base.parts[0]]);
        return mul(number(base.factor ** exponent, part), power(inner, total, part));
      }
    }
    if (Math.abs(exponent) > MAX_POWER) fail(`a power may be at most ${MAX_POWER}`, part);
    return product(1, [base], [exponent]);
  }
  function where(condition, a, b) {
    if (condition.op === "true" || a === b) return a;
    return condition.op === "false" ? b : make("where", [condition, a, b]);
  }
  const RELATION = { "<": "lt", "<=": "le", ">": "gt", ">=": "ge" };
  const HOLDS = { lt: (a, b) => a < b, le: (a, b) => a <= b, gt: (a, b) => a > b, ge: (a, b) => a >= b };
  function compare(relation, a, b) {
    if (a === b) return truth(relation === "le" || relation === "ge");
    return a.op === "number" && b.op === "number" ? truth(HOLDS[relation](a.value, b.value)) : make(relation, [a, b]);
  }
  function join(word, parts) {
    const decided = word === "and" ? "false" : "true", other = word === "and" ? "true" : "false";
    if (parts.some((p) => p.op === decided)) return truth(decided === "true");
    const kept = [...new Set(parts.filter((p) => p.op !== other))];
    return kept.length === 0 ? truth(other === "true") : kept.length === 1 ? kept[0] : make(word, kept);
  }
  const negate = (c) => (c.op === "not" ? c.parts[0] : c.op === "true" || c.op === "false" ? truth(c.op === "false") : make("not", [c]));
  function primitive(name, parts, part) {
    if (name === "max" || name === "min") {
      if (parts[0] === parts[1]) return parts[0];
      if (!parts[1].constant && parts[0].constant) parts = [parts[1], parts[0]];
    }
    if (parts.every((p) => p.op === "number")) {
      const into = new Float64Array(1);
      OPERATIONS[name](into, ...parts.map((p) => Float64Array.of(p.value)));
      return number(into[0], part);
    }
    return make(name, parts);
  }

  // ---- syntax tree -> nodes ---------------------------------------------------------------------

  const CONSTANTS = { pi: Math.PI, e: Math.E };
  const SYNONYMS = { maximum: "max", minimum: "min", clamp: "clip" };
  const arity = (name) => DATA.rules[name][0];

  function read(tree, inputs) {
    let variable = null;
    const check = (node, part) => {
      if (node.size > MAX_SIZE) fail(`the formula has more than ${MAX_SIZE} operations when written out`, part);
      return node;
    };
    const value = (part) => {
      const node = any(part);
      return is_condition(node) ? fail("a value is needed here, not a condition", part) : node;
    };
    const condition = (part) => {
      const node = any(part);
      return is_condition(node) ? node : fail("a condition is needed here, such as x > 0", part);
    };
    const any = (part) => check(READ[part.kind](part), part);
    const READ = {
      number(part) {
        const plain = part.text.replaceAll("_", "");
        if (/^0\d*[1-9]\d*$/.test(plain)) fail("a number does not begin with 0", part);
        const result = Number(plain);
        if (!Number.isFinite(result) || (result === 0 && /^[^eE]*[1-9]/.test(plain) && !/^0[xXoObB]/.test(plain)))
          fail("this number is outside the range of float64", part);
        return number(result, part);
      },
      name(part) {
        const { name } = part;
        if (inputs) return inputs[name] ?? (name in CONSTANTS ? number(CONSTANTS[name]) : fail(`unknown name '${name}'`, part));
        if (name === "x" || name === "z") {
          if (variable !== null && variable !== name) fail("the formula uses both x and z; its one variable is x or z", part);
          variable = name;
          return X;
        }
        if (name in CONSTANTS) return number(CONSTANTS[name]);
        if (is_function(name)) fail(`'${name}' is a function: write ${name}(x)`, part);
        not_elementwise(name, part);
        return fail(`'${name}' has no value here: the variable is x, and a parameter is written as a number`, part);
      },
      sign(part) {
        if (part.sign === "~") fail("write 'not' instead of ~", part);
        const inner = value(part.parts[0]);
        return part.sign === "-" ? mul(number(-1), inner) : inner;
      },
      chain(part) {
        const sign = part.signs[1];
        if (sign === "&" || sign === "|") return join(sign === "&" ? "and" : "or", part.parts.map(condition));
        if (sign === "^") fail("^ is not a power here: write x**2", part);
        if (part.level === 3) fail(`the operator ${sign} cannot be used in a formula`, part);
        const terms = part.parts.map((inner, k) => {
          const node = value(inner), how = part.signs[k];
          if (how === "-") return mul(number(-1), node);
          if (how === "/") return node === ZERO ? fail("this divides by zero", inner) : power(node, -1, inner);
          return how === "" || how === "+" || how === "*" ? node : fail(`the operator ${how} cannot be used in a formula`, inner);
        });
        return part.level === 4 ? add(...terms) : mul(...terms);
      },
      power(part) {
        const base = value(part.parts[0]), exponent = value(part.parts[1]);
        if (!exponent.constant) {
          if (base.op === "number" && base.value > 0) return primitive("exp", [mul(exponent, number(Math.log(base.value)))]);
          fail("a power must be a number; write exp(p*log(x)) for x > 0", part.parts[1]);
        }
        const e = exponent.value;
        const roots = base.constant ? MAX_ROOT : 2;
        let fits = false;
        for (let q = 1; q <= roots && !fits; q++) fits = Math.abs(e * q - Math.round(e * q)) < 1e-12;
        if (!fits) fail("a power must be an integer or a half, such as 2, -1 or 0.5", part.parts[1]);
        if (Math.abs(e) > MAX_POWER) fail(`a power may be at most ${MAX_POWER}`, part.parts[1]);
        if (e < 0 && base === ZERO) fail("this divides by zero", part);
        return power(base, e, part);
      },
      and: (part) => join("and", part.parts.map(condition)),
      or: (part) => join("or", part.parts.map(condition)),
      not: (part) => negate(condition(part.parts[0])),
      compare(part) {
        const values = part.parts.map(value);
        const relations = part.signs.map((sign, k) => {
          if (!(sign in RELATION)) fail("conditions are written with <, <=, > or >=", part);
          return compare(RELATION[sign], values[k], values[k + 1]);
        });
        return join("and", relations);
      },
      choose: (part) => where(condition(part.parts[0]), value(part.parts[1]), value(part.parts[2])),
      call(part) {
        not_elementwise(part.name, part);
        const name = SYNONYMS[part.name] ?? part.name;
        if (name === "sqrt" || Object.hasOwn(DATA.rules, name)) return own(part, name);
        const activation = find(part.name, false);
        if (!activation) fail(`unknown function '${part.name}'`, part);
        if (part.parts.length !== 1) fail(`inside a formula, ${part.name} takes one argument: ${part.name}(x)`, part);
        const given = Object.fromEntries(part.named.map(([key, inner]) => {
          const node = value(inner);
          if (node.op !== "number") fail(`the parameter ${key} of ${part.name} must be a number here`, inner);
          return [key, node.value];
        }));
        return apply(activation, value(part.parts[0]), given, part);
      },
    };
    function own(part, name) {
      if (part.named.length) fail(`${part.name} takes no named arguments`, part);
      const several = name === "max" || name === "min";
      const wanted = name === "sqrt" ? 1 : name === "where" ? 3 : arity(name);
      if (several ? part.parts.length < 2 : part.parts.length !== wanted)
        fail(`${part.name} takes ${several ? "two or more" : wanted} arguments, not ${part.parts.length}`, part);
      if (name === "where") return where(condition(part.parts[0]), value(part.parts[1]), value(part.parts[2]));
      const values = part.parts.map(value);
      if (name === "sqrt") return power(values[0], 0.5, part);
      return several ? values.reduce((a, b) => primitive(name, [a, b], part)) : primitive(name, values, part);
    }
    const result = any(tree);
    if (is_condition(result)) fail("this is a condition, not a value; write where(condition, value_if_true, value_if_false)", tree);
    return result;
  }
  function is_function(name) {
    return name === "sqrt" || name in SYNONYMS || Object.hasOwn(DATA.rules, name) || find(name, false) !== null;
  }
  function not_elementwise(name, part) {
    if (DATA.not_elementwise.includes(name)) fail(`${name} mixes the units of a layer, so it is no activation of a single unit`, part);
  }

  // ---- the catalogue ------------------------------------------------------------------------------

  const catalogue = new Map();
  function find(name, loosely = true) {
    if (!catalogue.size)
      for (const [name, formula, parameters, aliases] of DATA.activations)
        for (const n of [name, ...aliases]) catalogue.set(n, { name, formula, parameters });
    const lower = name.toLowerCase(), snake = name.replace(/(?<=[a-z0-9])(?=[A-Z])/g, "_").toLowerCase();
    const guesses = loosely ? [name, lower, lower.replace(/[- ]/g, "_"), snake] : [name];
    return guesses.map((g) => catalogue.get(g)).find(Boolean) ?? null;
  }
  // The node of an activation of the catalogue at an argument; `given` replaces its parameters.
  function apply(activation, argument, given = {}, part = null) {
    for (const key of Object.keys(given))
      if (!Object.hasOwn(activation.parameters, key)) fail(`${activation.name} has no parameter '${key}'`, part);
    const inputs = { x: argument, z: argument };
    for (const [key, standard] of Object.entries(activation.parameters)) inputs[key] = number(given[key] ?? standard, part);
    return read(syntax(activation.formula), inputs);
  }

  // ---- derivatives ----------------------------------------------------------------------------------
  // A primitive's chain rule is a text in its arguments x, y, w and their derivatives dx, dy, dw.

  const NAMES = ["x", "y", "w"];
  const rules = new Map();
  const rule = (op) => rules.get(op) ?? rules.set(op, syntax(DATA.rules[op][1])).get(op);
  function derivative(node, known = new Map()) {
    if (node.constant) return ZERO;
    let result = known.get(node);
    if (result !== undefined) return result;
    const d = (part) => derivative(part, known);
    if (node.op === "input") result = ONE;
    else if (node.op === "add") result = add(...node.parts.map((p, k) => mul(number(node.factors[k]), d(p))));
    else if (node.op === "mul")
      result = add(...node.parts.map((p, k) => {
        const rest = node.parts.filter((_, j) => j !== k).map((other) => power(other, node.powers[node.parts.indexOf(other)]));
        return mul(number(node.factor * node.powers[k]), power(p, node.powers[k] - 1), d(p), ...rest);
      }));
    else if (node.op === "where") result = where(node.parts[0], d(node.parts[1]), d(node.parts[2]));
    else {
      const inputs = {};
      node.parts.forEach((p, k) => { inputs[NAMES[k]] = p; inputs["d" + NAMES[k]] = d(p); });
      result = read(rule(node.op), inputs);
    }
    known.set(node, result);
    return result;
  }

  // ---- programs -----------------------------------------------------------------------------------

  // erf by its series where |x| < 2.5, else by the continued fraction of erfc (Lentz).
  function erfc(x) {
    if (Number.isNaN(x)) return NaN;
    if (x < 0) return 2 - erfc(-x);
    if (x < 2.5) return 1 - erf(x);
    if (x > 27) return 0;
    let fraction = 0;
    for (let k = 80; k > 0; k--) fraction = k / 2 / (x + fraction);
    return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
  }
  function erf(x) {
    if (Math.abs(x) >= 2.5 || Number.isNaN(x)) return x < 0 ? erfc(-x) - 1 : 1 - erfc(x);
    let term = x, sum = x;
    for (let k = 1; k < 100 && Math.abs(term) > 1e-18 * Math.abs(sum); k++) {
      term *= (2 * x * x) / (2 * k + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  const SIGMOID = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
  const HYPOT = (x, y) => (Number.isNaN(x) || Number.isNaN(y) ? NaN : Math.hypot(x, y));
  const SCALAR = {
    sigmoid: SIGMOID,
    tanh: Math.tanh, exp: Math.exp, expm1: Math.expm1, log: Math.log, log1p: Math.log1p,
    softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
    softsign: (x) => (Math.abs(x) === Infinity ? Math.sign(x) : x / (1 + Math.abs(x))),
    isru: (x) => (Math.abs(x) === Infinity ? Math.sign(x) : x / HYPOT(x, 1)),
    erf, erfc,
    gaussian: (x) => Math.exp(-x * x),
    normal_cdf: (x) => erfc(-x * Math.SQRT1_2) / 2,
    normal_pdf: (x) => Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI),
    abs: Math.abs, sign: Math.sign, sin: Math.sin, cos: Math.cos, sinh: Math.sinh, cosh: Math.cosh,
    asinh: Math.asinh, atan: Math.atan, round: (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)),
    floor: Math.floor,
  };
  const OPERATIONS = {};
  for (const [name, f] of Object.entries(SCALAR))
    OPERATIONS[name] = (into, x) => { for (let k = 0; k < into.length; k++) into[k] = f(x[k]); };
  const pairwise = (f) => (into, a, b) => { for (let k = 0; k < into.length; k++) into[k] = f(a[k], b[k]); };
  Object.assign(OPERATIONS, {
    hypot: pairwise(HYPOT),
    max: pairwise(Math.max), min: pairwise(Math.min),
    lt: pairwise((a, b) => +(a < b)), le: pairwise((a, b) => +(a <= b)),
    gt: pairwise((a, b) => +(a > b)), ge: pairwise((a, b) => +(a >= b)),
    and: (into, ...all) => { for (let k = 0; k < into.length; k++) into[k] = +all.every((c) => c[k]); },
    or: (into, ...all) => { for (let k = 0; k < into.length; k++) into[k] = +all.some((c) => c[k]); },
    not: (into, c) => { for (let k = 0; k < into.length; k++) into[k] = +!c[k]; },
    clip(into, x, low, high) { for (let k = 0; k < into.length; k++) into[k] = Math.min(Math.max(x[k], low[k]), high[k]); },
    where(into, c, a, b) { for (let k = 0; k < into.length; k++) into[k] = c[k] ? a[k] : b[k]; },
  });
  const raise = (x, p) => (p === 1 ? x : p === 2 ? x * x : p === -1 ? 1 / x : p === 0.5 ? Math.sqrt(x) : p === -0.5 ? 1 / Math.sqrt(x) : x ** p);

  // The operations of some nodes in an order in which each finds its arguments ready.
  function program(outputs) {
    const order = [], place = new Map();
    const visit = (node) => {
      if (place.has(node)) return;
      node.parts.forEach(visit);
      place.set(node, order.length);
      order.push(node);
    };
    outputs.forEach(visit);
    return { order, arguments: order.map((n) => n.parts.map((p) => place.get(p))), outputs: outputs.map((n) => place.get(n)), width: -1, room: [] };
  }
  // The outputs of a program for an array of x; the arrays belong to the program and are reused.
  function run(prog, x) {
    const n = x.length;
    if (prog.width !== n) {
      prog.width = n;
      prog.room = prog.order.map((node) => new Float64Array(n).fill(node.value ?? (node.op === "true" ? 1 : 0)));
    }
    const room = prog.room;
    prog.order.forEach((node, at) => {
      const given = prog.arguments[at].map((k) => room[k]);
      const into = room[at];
      if (node.op === "input") room[at] = x;
      else if (node.op === "add") {
        into.fill(node.addend);
        given.forEach((a, j) => { const f = node.factors[j]; for (let k = 0; k < n; k++) into[k] += f * a[k]; });
      } else if (node.op === "mul") {
        into.fill(node.factor);
        given.forEach((a, j) => { const p = node.powers[j]; for (let k = 0; k < n; k++) into[k] *= raise(a[k], p); });
      } else if (node.op in OPERATIONS) OPERATIONS[node.op](into, ...given);
    });
    return prog.outputs.map((k) => room[k]);
  }

  // What a visitor typed: {text, formula, node, slope}; slope is the derivative's node.
  const WITH_PARAMETERS = /^([A-Za-z]\w*)\s*\(((?:\s*[A-Za-z]\w*\s*=[^=,()]+,?)+)\)$/;
  function resolve(text) {
    text = text.split(/\s+/).filter(Boolean).join(" ").replace(/\s*#.*$/, "");
    if (text.length > MAX_LENGTH) throw new FormulaError(`the formula is ${text.length} characters long; at most ${MAX_LENGTH} are read`);
    if (!text) throw new FormulaError("the formula is empty; write one like 'x*sigmoid(x)'", 0);
    let node = null, named = find(text);
    const match = WITH_PARAMETERS.exec(text);
    if (named) node = apply(named, X);
    else if (match && find(match[1])) {
      const given = {};
      for (const piece of match[2].split(",").filter((p) => p.trim())) {
        const [key, number_] = piece.split("=").map((p) => p.trim());
        const found = read(syntax(number_), null);
        if (found.op !== "number") throw new FormulaError(`the parameter ${key} must be a number`);
        given[key] = found.value;
      }
      node = apply(find(match[1]), X, given);
    } else {
      const tree = syntax(text);
      check_size(tree);
      node = read(tree, null);
      const called = tree.kind === "call" && find(tree.name, false);
      if (called && node.constant && Object.keys(called.parameters).length && !tree.parts[0].parts.length)
        throw new FormulaError(`this is a number; name the parameter: ${tree.name}(${Object.keys(called.parameters)[0]}=...)`);
    }
    const made = { text, node, slope: derivative(node) };
    made.program = program([made.node, made.slope]);
    return made;
  }
  // f and f' of an array of arguments.
  const evaluate = (activation, x) => run(activation.program, x);

  return { FormulaError, resolve, evaluate, operations: Object.keys(OPERATIONS) };
})();
