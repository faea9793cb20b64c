/*
 * Warns users of browsers older than Chrome 109, Firefox 115 and Safari 16.4. This script is not a module and uses the
 * syntax of 2009, so that those browsers run it. Each test is for a feature that the pages use and that came late to
 * one of them.
 */
(function () {
  var words = {
    en: 'Your browser is too old for this page. Use Chrome or Edge 109, Firefox 115, Safari 16.4, or a later version.',
    zh: '浏览器版本过低，无法正常显示此页面。请使用 Chrome 或 Edge 109、Firefox 115、Safari 16.4 或更高版本。'
  };

  function matches(pattern) {
    try {
      return new RegExp(pattern).test('a');
    } catch (error) {
      return false;
    }
  }

  function isOld() {
    var has = 'inert' in document.documentElement && Array.prototype.findLast && window.TextDecoderStream;
    return !has || !matches('(?<!b)a');
  }

  function language() {
    try {
      return JSON.parse(localStorage.getItem('chatkeep.language')) || navigator.language;
    } catch (error) {
      return navigator.language;
    }
  }

  function tell() {
    var node = document.createElement('p');
    node.className = 'too-old';
    node.setAttribute('role', 'alert');
    node.appendChild(document.createTextNode(words[/^zh/i.test(language()) ? 'zh' : 'en']));
    document.body.insertBefore(node, document.body.firstChild);
  }

  if (isOld()) document.addEventListener('DOMContentLoaded', tell);
})();
