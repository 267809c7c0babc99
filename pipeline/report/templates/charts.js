// Draws every chart of the page. Specifications come with the page; nothing is fetched.
(() => {
  const specs = JSON.parse(document.getElementById("specifications").textContent);
  const options = { renderer: "svg", actions: false, tooltip: { theme: "page" } };
  for (const [name, spec] of Object.entries(specs)) {
    const place = document.getElementById(name);
    vegaEmbed(place, spec, options).catch((error) => {
      place.textContent = `This chart could not be drawn: ${error.message}`;
      console.error(name, error);
    });
  }
})();
