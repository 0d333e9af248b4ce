"""The texts of charts: titles of axes, legends, what a pointer is told, and each chart in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

ENGLISH = {
    # Words that several charts share.
    "unknown": "unknown",
    "model": "model",
    "chance": "by chance",
    "customers": "customers",
    "interval": "95% interval",
    "between": "{lower} to {upper}",
    "around": "{value} ({lower} to {upper})",
    "expected": "expected",
    "actual": "came",
    "rate": "average {rate}",
    "square": "{title} (square-root scale)",
    "more": "{count} more",
    # Baselines, by their names.
    "base_rate": "base rate",
    "best_rule": "best single rule",
    "bg_nbd": "BG/NBD",
    "popularity": "popularity",
    "own_frequency": "own habits",
    # Gain.
    "gain.x": "share of customers contacted, likeliest first",
    "gain.y": "share of all outcomes reached",
    "gain.contacted": "contacted",
    "gain.reached": "reached",
    "gain.promised": "reached, by the probabilities",
    "gain.at": "{share} contacted: {gain} reached",
    "gain.description": (
        "Gain curve of {rows} tested: contacting the likeliest {share} reaches {gain} of all outcomes; by chance it would be {share}."
    ),
    # Lift.
    "lift.x": "tenth of the customers, 1 = likeliest",
    "lift.y": "outcomes, as a multiple of the average",
    "lift.decile": "tenth",
    "lift.lift": "lift",
    "lift.precision": "with the outcome",
    "lift.gain": "reached so far",
    "lift.description": (
        "Lift by tenths of {rows} tested: the likeliest tenth has {first} times the average of outcomes, the least likely {last} times."
    ),
    # Precision.
    "precision.x": "share of customers contacted, likeliest first",
    "precision.y": "of those contacted, share with the outcome",
    "precision.precision": "with the outcome",
    "precision.size": "customers",
    "precision.at": "{share} contacted: {precision} of them",
    "precision.description": "Precision by size of the audience: of the likeliest {share}, {precision} had the outcome; of all, {rate}.",
    # Reliability.
    "reliability.x": "probability that was said",
    "reliability.y": "share that had the outcome",
    "reliability.said": "said",
    "reliability.found": "had it",
    "reliability.right": "as said",
    "reliability.holds": "within the interval",
    "reliability.outside": "outside the interval",
    "reliability.verdict": "what was said lies",
    "reliability.description": (
        "Reliability in {bins} groups of {rows} tested: in {holds} of them the interval of what came holds what was said."
    ),
    # Scores.
    "scores.x": "probability",
    "scores.y": "customers",
    "scores.range": "probability",
    "scores.share": "of all",
    "scores.description": "Distribution of the probabilities of {rows} customers: half of them lie below {median}, a tenth above {high}.",
    # Trend.
    "trend.auc": "AUC",
    "trend.log_loss": "log-loss",
    "trend.skill": "skill against {baseline}",
    "trend.rate": "share with the outcome",
    "trend.ndcg_at_10": "NDCG@10",
    "trend.recall_at_10": "recall@10",
    "trend.x": "test cutoff",
    "trend.chance": "by chance",
    "trend.nothing": "no gain",
    "trend.description": "{measure} at {steps} test cutoffs, {first} to {last}: {values}.",
    # Expected beside actual.
    "outcomes.x": "scores of",
    "outcomes.y": "outcomes",
    "outcomes.expected": "expected, with 95% interval",
    "outcomes.within": "came, as expected",
    "outcomes.outside": "came, outside the interval",
    "outcomes.description": (
        "Outcomes expected and come in {runs} runs, {first} to {last}: {holds} lie within their 95% interval. Newest: "
        "{expected} expected, {actual} came."
    ),
    # Drivers, importance.
    "drivers.x": "mean effect on the score",
    "drivers.up": "more of it: likelier",
    "drivers.down": "more of it: less likely",
    "drivers.mixed": "depends on the value",
    "drivers.direction": "direction",
    "drivers.effect": "mean effect",
    "drivers.description": "What moves the scores most: {names}.",
    "importance.x": "share of what moves the scores",
    "importance.share": "share",
    "importance.description": "What moves the scores most: {names}.",
    "shape.y": "effect on the score",
    "shape.value": "value",
    "shape.effect": "mean effect",
    "shape.share": "of all customers",
    "shape.rows": "value · share of customers",
    "shape.description": "How the score changes with {name}: {values}.",
    # One customer.
    "story.x": "effect on the score",
    "story.start": "usual customer",
    "story.end": "this customer",
    "story.others": "everything else",
    "story.for": "makes it likelier",
    "story.against": "makes it less likely",
    "story.effect": "effect",
    "story.direction": "direction",
    "story.description": "One customer's score, reason by reason: {reasons}.",
    # Categories and lists.
    "bars.description": "{measure}. {values}.",
    "takers.x": "takers",
    "takers.chance": "by chance alone",
    "takers.verdict": "what came lies",
    "takers.description": (
        "Takers of {categories} categories: in {holds} of them chance explains the difference. Expected and come: {values}."
    ),
}
SPANISH = {
    "unknown": "desconocido",
    "model": "modelo",
    "chance": "al azar",
    "customers": "clientes",
    "interval": "intervalo del 95 %",
    "between": "de {lower} a {upper}",
    "around": "{value} (de {lower} a {upper})",
    "expected": "esperado",
    "actual": "ocurrido",
    "rate": "promedio {rate}",
    "square": "{title} (escala √)",
    "more": "{count} más",
    "base_rate": "tasa base",
    "best_rule": "mejor regla simple",
    "bg_nbd": "BG/NBD",
    "popularity": "popularidad",
    "own_frequency": "hábitos propios",
    "gain.x": "parte de los clientes contactados",
    "gain.y": "parte alcanzada de todos los resultados",
    "gain.contacted": "contactados",
    "gain.reached": "alcanzado",
    "gain.promised": "alcanzado, según las probabilidades",
    "gain.at": "{share} contactado: {gain} alcanzado",
    "gain.description": (
        "Curva de ganancia de {rows} casos de prueba: contactar al {share} más probable alcanza el {gain} de los resultados; "
        "al azar sería el {share}."
    ),
    "lift.x": "décima parte de los clientes, 1 = la más probable",
    "lift.y": "resultados, en múltiplos del promedio",
    "lift.decile": "décima parte",
    "lift.lift": "lift",
    "lift.precision": "con el resultado",
    "lift.gain": "alcanzado hasta aquí",
    "lift.description": (
        "Lift por décimas partes de {rows} casos de prueba: la más probable tiene {first} veces el promedio de resultados; la "
        "menos probable, {last} veces."
    ),
    "precision.x": "parte de los clientes contactados",
    "precision.y": "de los contactados, parte con el resultado",
    "precision.precision": "con el resultado",
    "precision.size": "clientes",
    "precision.at": "{share} contactado: {precision} de ellos",
    "precision.description": (
        "Precisión según el tamaño de la audiencia: del {share} más probable, el {precision} tuvo el resultado; de todos, el {rate}."
    ),
    "reliability.x": "probabilidad anunciada",
    "reliability.y": "parte que tuvo el resultado",
    "reliability.said": "anunciado",
    "reliability.found": "lo tuvo",
    "reliability.right": "lo anunciado",
    "reliability.holds": "dentro del intervalo",
    "reliability.outside": "fuera del intervalo",
    "reliability.verdict": "lo anunciado está",
    "reliability.description": (
        "Fiabilidad en {bins} grupos de {rows} casos de prueba: en {holds} de ellos el intervalo de lo ocurrido contiene lo anunciado."
    ),
    "scores.x": "probabilidad",
    "scores.y": "clientes",
    "scores.range": "probabilidad",
    "scores.share": "del total",
    "scores.description": (
        "Distribución de las probabilidades de {rows} clientes: la mitad está por debajo de {median}, una décima parte por "
        "encima de {high}."
    ),
    "trend.auc": "AUC",
    "trend.log_loss": "log-loss",
    "trend.skill": "mejora frente a: {baseline}",
    "trend.rate": "parte con el resultado",
    "trend.ndcg_at_10": "NDCG@10",
    "trend.recall_at_10": "recall@10",
    "trend.x": "fecha de corte de la prueba",
    "trend.chance": "al azar",
    "trend.nothing": "sin mejora",
    "trend.description": "{measure} en {steps} fechas de corte, de {first} a {last}: {values}.",
    "outcomes.x": "puntuaciones del",
    "outcomes.y": "resultados",
    "outcomes.expected": "esperado, con intervalo del 95 %",
    "outcomes.within": "ocurrido, como se esperaba",
    "outcomes.outside": "ocurrido, fuera del intervalo",
    "outcomes.description": (
        "Resultados esperados y ocurridos en {runs} ejecuciones, de {first} a {last}: {holds} están dentro de su intervalo del "
        "95 %. La más reciente: {expected} esperados, {actual} ocurridos."
    ),
    "drivers.x": "efecto medio en la puntuación",
    "drivers.up": "cuanto más, más probable",
    "drivers.down": "cuanto más, menos probable",
    "drivers.mixed": "depende del valor",
    "drivers.direction": "dirección",
    "drivers.effect": "efecto medio",
    "drivers.description": "Lo que más mueve las puntuaciones: {names}.",
    "importance.x": "parte de lo que mueve las puntuaciones",
    "importance.share": "parte",
    "importance.description": "Lo que más mueve las puntuaciones: {names}.",
    "shape.y": "efecto en la puntuación",
    "shape.value": "valor",
    "shape.effect": "efecto medio",
    "shape.share": "de todos los clientes",
    "shape.rows": "valor · parte de los clientes",
    "shape.description": "Cómo cambia la puntuación con {name}: {values}.",
    "story.x": "efecto en la puntuación",
    "story.start": "cliente habitual",
    "story.end": "este cliente",
    "story.others": "todo lo demás",
    "story.for": "lo hace más probable",
    "story.against": "lo hace menos probable",
    "story.effect": "efecto",
    "story.direction": "dirección",
    "story.description": "La puntuación de un cliente, razón por razón: {reasons}.",
    "bars.description": "{measure}. {values}.",
    "takers.x": "clientes que la toman",
    "takers.chance": "por puro azar",
    "takers.verdict": "lo ocurrido está",
    "takers.description": (
        "Clientes que toman cada una de {categories} categorías: en {holds} de ellas el azar explica la diferencia. Esperados "
        "y ocurridos: {values}."
    ),
}
TEXTS: Mapping[str, Mapping[str, str]] = {"en": ENGLISH, "es": SPANISH}
